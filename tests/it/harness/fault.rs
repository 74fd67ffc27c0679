//! Faults: what may happen to an answer on its way, and which of them happen under a seed.

use std::collections::{BTreeMap, HashMap};

use crate::harness::chance::Chance;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The connection closes in the middle of the body.
    Cut,
    /// The connection is reset in the middle of the body.
    Reset,
    /// Nothing more comes, and after a while the connection closes.
    Stall,
    /// One byte of the body is another.
    Corrupt,
    /// 429, with a `Retry-After` in seconds or as a date.
    TooManyRequests,
    /// 500 or 503.
    ServerError,
    /// 200 and the whole blob for a request of a part.
    NoRange,
    /// 416 for a part that is there.
    Unsatisfiable,
    /// 401: no token from before counts any more.
    TokenExpired,
    /// 403: the signature of the link that a redirect gave is too old.
    LinkExpired,
}

const ALL: [Fault; 10] = [
    Fault::Cut,
    Fault::Reset,
    Fault::Stall,
    Fault::Corrupt,
    Fault::TooManyRequests,
    Fault::ServerError,
    Fault::NoRange,
    Fault::Unsatisfiable,
    Fault::TokenExpired,
    Fault::LinkExpired,
];

/// How a server behaves: its kinds of faults, and whether it wants tokens and redirects to signed links.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    pub(crate) seed: u64,
    pub(crate) faults: Vec<Fault>,
    /// What meets the first answer about one thing, whatever the seed says.
    pub(crate) first: Option<(String, Fault)>,
    pub(crate) tokens: bool,
    pub(crate) links: bool,
}

impl Behaviour {
    /// Returns a server of one to four kinds of faults.
    pub(crate) fn of_seed(seed: u64) -> Behaviour {
        let mut chance = Chance::of(seed, "behaviour", 0);
        let kinds = 1 + chance.below(4);
        let faults: Vec<Fault> = (0..kinds).map(|_| chance.pick(&ALL)).collect();
        Behaviour {
            seed,
            first: None,
            tokens: faults.contains(&Fault::TokenExpired) || chance.one_in(4),
            links: faults.contains(&Fault::LinkExpired) || chance.one_in(4),
            faults,
        }
    }
}

/// What is asked for, as far as that decides which faults can meet it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Asked {
    Manifest,
    /// At the registry, which answers with a link to the content.
    Link,
    /// The content of a blob, all or from some byte on.
    Blob {
        layer: bool,
        part: bool,
        linked: bool,
    },
}

/// Answers in a row that bring nothing, for one thing asked: fewer than make any client give up.
const FRUITLESS: u32 = 2;

/// Bytes delivered between a token's issue and its end: a client that is refused with a new one gives up.
const TOKEN_LIFE: u64 = 8 << 20;

/// Draws the faults of one server, and counts them.
pub(crate) struct Faults {
    behaviour: Behaviour,
    times: HashMap<String, u64>,
    fruitless: HashMap<String, u32>,
    corrupted: Vec<String>,
    pub(crate) counts: BTreeMap<Fault, usize>,
}

impl Faults {
    pub(crate) fn new(behaviour: Behaviour) -> Faults {
        Faults {
            behaviour,
            times: HashMap::new(),
            fruitless: HashMap::new(),
            corrupted: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Decides what happens to this request, and with which chances. `delivered` is the bytes of layers sent since the
    /// newest token was issued.
    ///
    /// It depends on the seed, on what is asked for and on how often that was asked for before, and not on what
    /// other connections do meanwhile, but for the end of tokens.
    pub(crate) fn draw(
        &mut self,
        what: &str,
        asked: Asked,
        delivered: u64,
    ) -> (Option<Fault>, Chance) {
        let time = self.times.entry(what.to_owned()).or_default();
        *time += 1;
        let mut chance = Chance::of(self.behaviour.seed, what, *time);
        if let Some((thing, fault)) = &self.behaviour.first
            && thing == what
            && *time == 1
        {
            *self.counts.entry(*fault).or_default() += 1;
            return (Some(*fault), chance);
        }
        let part = matches!(asked, Asked::Blob { part: true, .. });
        let rarity = if part { 3 } else { 6 };
        if self.behaviour.faults.is_empty() || !chance.one_in(rarity) {
            return (None, chance);
        }
        let fault = chance.pick(&self.behaviour.faults);
        if !self.can_meet(fault, what, asked, delivered) {
            return (None, chance);
        }
        if fault == Fault::Corrupt {
            self.corrupted.push(what.to_owned());
        }
        if is_fruitless(fault) {
            *self.fruitless.entry(what.to_owned()).or_default() += 1;
        }
        *self.counts.entry(fault).or_default() += 1;
        (Some(fault), chance)
    }

    fn can_meet(&self, fault: Fault, what: &str, asked: Asked, delivered: u64) -> bool {
        let suits = match fault {
            Fault::TooManyRequests | Fault::ServerError => true,
            Fault::Cut | Fault::Reset => asked != Asked::Link,
            Fault::Stall => matches!(asked, Asked::Blob { .. }),
            // Twice is a registry that holds other bytes, and the pull ends.
            Fault::Corrupt => {
                matches!(asked, Asked::Blob { layer: true, .. })
                    && !self.corrupted.iter().any(|c| c == what)
            }
            Fault::NoRange | Fault::Unsatisfiable => {
                matches!(asked, Asked::Blob { part: true, .. })
            }
            Fault::TokenExpired => {
                !matches!(asked, Asked::Blob { linked: true, .. }) && delivered >= TOKEN_LIFE
            }
            Fault::LinkExpired => matches!(asked, Asked::Blob { linked: true, .. }),
        };
        let fruitless = self.fruitless.get(what).copied().unwrap_or_default();
        suits && (!is_fruitless(fault) || fruitless < FRUITLESS)
    }
}

fn is_fruitless(fault: Fault) -> bool {
    !matches!(
        fault,
        Fault::Cut | Fault::Reset | Fault::Stall | Fault::Corrupt | Fault::NoRange
    )
}
