//! Every byte once: pulls over a bad line, killed at random moments and started again until they succeed.
//!
//! Every run has a seed, which its failure names; `DDOCK_FAULT_SEED=17` runs that one alone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;

use crate::harness::chance::Chance;
use crate::harness::ddock::Ddock;
use crate::harness::fault::{Behaviour, Fault};
use crate::harness::fault_proxy::Proxy;
use crate::harness::network;
use crate::harness::pulling::Pulling;
use crate::harness::sample::Sample;

/// Bytes that the kernel keeps for a reader; what waits there when it is killed is sent again.
const RECEIVE_BUFFER: usize = 32 << 10;

/// Body bytes of layers that may be delivered for a byte of the image, over all of a run's pulls.
const BOUND: f64 = 1.02;

/// What a run took.
struct Run {
    seed: u64,
    kills: usize,
    interrupts: usize,
    delivered: u64,
    allowance: u64,
    faults: BTreeMap<Fault, usize>,
    /// At the registry, and where its links lead.
    authorized: (usize, usize),
}

#[test]
fn pulls_over_a_bad_line_and_kills_end_right() {
    all(0..12);
}

#[test]
#[ignore = "long: five minutes and more"]
fn three_hundred_pulls_over_a_bad_line_and_kills_end_right() {
    all(1000..1300);
}

/// Runs all seeds, two at a time, and prints what they took.
fn all(seeds: Range<u64>) {
    network::enter();
    network::limit_receive_buffers(RECEIVE_BUFFER);
    let sample = Sample::of_forty_layers();
    let only = std::env::var("DDOCK_FAULT_SEED").ok();
    let seeds = only.map_or(seeds, |seed| {
        let seed = seed.parse().expect("DDOCK_FAULT_SEED is a number");
        seed..seed + 1
    });
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut runs = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return runs;
            }
            runs.push(run(&sample, seed));
        }
    };
    let runs = std::thread::scope(|scope| {
        let both = [scope.spawn(work), scope.spawn(work)];
        both.map(|thread| thread.join().expect("the run's own message is above"))
    });
    report(
        &runs.into_iter().flatten().collect::<Vec<_>>(),
        sample.size(),
    );
}

/// Pulls until it succeeds, killed as the seed says.
fn run(sample: &Sample, seed: u64) -> Run {
    let _replay = Replay(seed);
    let proxy = Proxy::serve(&sample.image, Behaviour::of_seed(seed));
    let ddock = Ddock::new();
    let (mut kills, mut interrupts) = (0, 0);
    let size = sample.size();
    for (moment, signal) in stops(seed, size) {
        let mut pulling = Pulling::start(&ddock, &proxy);
        if let Some(code) = pulling.wait_for(&proxy, moment) {
            assert!(code == 0, "it gave up with {code}: {}", pulling.log());
            continue;
        }
        match (signal, pulling.stop(signal)) {
            (Signal::KILL, 137) => kills += 1,
            (Signal::INT, 130) => interrupts += 1,
            (_, 0) => {} // it was at its end
            (_, code) => panic!("{signal:?} and it ended with {code}: {}", pulling.log()),
        }
    }
    Pulling::start(&ddock, &proxy).succeed();
    sample.assert_unpacked(&ddock, &proxy.reference());
    let run = Run {
        seed,
        kills,
        interrupts,
        delivered: proxy.delivered(),
        allowance: proxy.allowance(),
        faults: proxy.faults(),
        authorized: proxy.authorized(),
    };
    assert_eq!(run.authorized.1, 0, "a token went to where a link leads");
    let bound = share(size) * BOUND + share(run.allowance);
    assert!(
        share(run.delivered) <= bound,
        "{} bytes were delivered for an image of {size}, {} more than the bound; {kills} kills, \
         {interrupts} interrupts, faults {:?} that cost {}",
        run.delivered,
        share(run.delivered) - bound,
        run.faults,
        run.allowance
    );
    run
}

/// Returns one to four moments of death, in bytes delivered, and the signals; kill -9 always among them.
fn stops(seed: u64, size: u64) -> Vec<(u64, Signal)> {
    let mut chance = Chance::of(seed, "stops", 0);
    let size = usize::try_from(size).unwrap();
    let mut moments: Vec<usize> = (0..=chance.below(4)).map(|_| chance.below(size)).collect();
    moments.sort_unstable();
    let stops = moments.into_iter().enumerate().map(|(number, moment)| {
        let interrupt = number > 0 && chance.one_in(3);
        let signal = if interrupt { Signal::INT } else { Signal::KILL };
        (moment as u64, signal)
    });
    stops.collect()
}

/// Names the seed when its run fails.
struct Replay(u64);

impl Drop for Replay {
    #[expect(clippy::print_stderr, reason = "a test's own output")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run it again with DDOCK_FAULT_SEED={}", self.0);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the counts are what the test is for")]
fn report(runs: &[Run], size: u64) {
    let ratio = |run: &Run| share(run.delivered) / share(size);
    let bound = |run: &Run| BOUND + share(run.allowance) / share(size);
    let line = |title: &str, runs: &[&Run]| {
        let mut ratios: Vec<f64> = runs.iter().map(|run| ratio(run)).collect();
        ratios.sort_by(f64::total_cmp);
        let Some((first, last)) = ratios.first().zip(ratios.last()) else {
            return println!("{title}: none");
        };
        let median = ratios[ratios.len() / 2];
        let worst = runs
            .iter()
            .max_by(|a, b| (ratio(a) / bound(a)).total_cmp(&(ratio(b) / bound(b))));
        let worst = worst.expect("not empty");
        println!(
            "{title}: {} runs, delivered / size: min {first:.4}, median {median:.4}, max {last:.4}; nearest to its bound: \
             seed {} with {:.4} of {:.4}",
            runs.len(),
            worst.seed,
            ratio(worst),
            bound(worst)
        );
    };
    let sum = |count: fn(&Run) -> usize| runs.iter().map(count).sum::<usize>();
    let mut faults = BTreeMap::new();
    for (fault, count) in runs.iter().flat_map(|run| &run.faults) {
        *faults.entry(*fault).or_insert(0) += count;
    }
    let (plain, repeated): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(|run| run.allowance == 0);
    println!(
        "an image of {size} bytes; {} kills, {} interrupts, requests with a token {}",
        sum(|run| run.kills),
        sum(|run| run.interrupts),
        sum(|run| run.authorized.0)
    );
    line("no byte to be sent twice", &plain);
    line("a corrupted byte or a lost range", &repeated);
    println!("faults: {faults:?}");
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of one image are far below 2^52"
)]
fn share(bytes: u64) -> f64 {
    bytes as f64
}
