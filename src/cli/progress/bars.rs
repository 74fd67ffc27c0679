//! A pull on a terminal: a bar for each layer and one for the whole.

use crate::cli::output::Stream;
use crate::cli::progress::tally::Tally;
use crate::cli::progress::{seconds, word};
use crate::human;
use crate::pull::{LayerId, LayerState};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The widest bar, in columns.
const MAX_BAR: usize = 32;

/// How often a line is drawn again that changes while nothing happens: a countdown, the rate.
const TICK: Duration = Duration::from_millis(250);

/// The bars of one pull. They stay as they are when this is dropped, but for the total, which goes.
pub(crate) struct Bars {
    screen: MultiProgress,
    /// More layers than the screen has lines: only those that move are shown.
    crowded: bool,
    /// In columns; 0 where there is no room.
    bar_width: usize,
    layers: HashMap<LayerId, Layer>,
    total: ProgressBar,
    /// Read by the total whenever it is drawn: never locked while a bar is told something.
    tally: Arc<Mutex<Tally>>,
    waiting: Option<Countdown>,
}

struct Layer {
    bar: ProgressBar,
    /// On the screen.
    shown: bool,
    /// It shows bytes, not only a word.
    moving: bool,
}

impl Bars {
    /// Puts a line for each layer on the terminal behind `stream`, in their order.
    pub(crate) fn new(stream: Stream, layers: &[LayerId]) -> Self {
        let screen = MultiProgress::with_draw_target(target(stream));
        let (rows, columns) = size_of_terminal(stream);
        // The longest total: `Total:  100%  1.27GB/s     [] 4.168GB/4.631GB  17m30s left`
        let bar_width = columns.saturating_sub(63).min(MAX_BAR);
        // The total and the line that the cursor is on need room too.
        let crowded = layers.len() + 2 > rows;
        let tally = Arc::new(Mutex::new(Tally::new(layers, Instant::now())));
        let total = screen.add(ProgressBar::new(0).with_style(total_style(bar_width, &tally)));
        total.enable_steady_tick(TICK);
        let mut bars = Self {
            screen,
            crowded,
            bar_width,
            layers: HashMap::new(),
            total,
            tally,
            waiting: None,
        };
        for id in layers {
            bars.add(id);
        }
        bars
    }

    fn add(&mut self, id: &LayerId) {
        // A layer may be listed twice; it is fetched once.
        if self.layers.contains_key(id) {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden())
            .with_style(word_style())
            .with_prefix(id.short().to_owned());
        let mut layer = Layer {
            bar,
            shown: false,
            moving: false,
        };
        if !self.crowded {
            layer.put(&self.screen, &self.total);
        }
        self.layers.insert(id.clone(), layer);
    }

    /// Shows that the layer `id` is in `state` now.
    pub(crate) fn show(&mut self, id: &LayerId, state: LayerState) {
        let Some(layer) = self.layers.get_mut(id) else {
            return;
        };
        let (received, size) = {
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.note(id, state, Instant::now());
            (tally.received(), tally.size())
        };
        self.total.set_length(size);
        self.total.set_position(received);
        if !matches!(state, LayerState::Retrying { .. }) {
            layer.bar.disable_steady_tick();
        }
        match state {
            LayerState::Waiting { .. } => layer.bar.set_message("Waiting"),
            LayerState::Downloading { received, size } => {
                self.waiting = None;
                if !layer.moving {
                    layer.put(&self.screen, &self.total);
                    layer.bar.set_style(bytes_style(self.bar_width));
                    layer.moving = true;
                }
                layer.bar.set_length(size);
                layer.bar.set_message(word(state));
                layer.bar.set_position(received);
            }
            LayerState::Retrying { after } => {
                layer.put(&self.screen, &self.total);
                layer.moving = false;
                layer.bar.set_style(countdown_style(after));
                layer.bar.enable_steady_tick(TICK);
            }
            LayerState::DownloadComplete => layer.say("Extracting", self.crowded),
            LayerState::AlreadyExists | LayerState::PullComplete => {
                layer.say(word(state), self.crowded);
                layer.bar.finish();
            }
        }
    }

    /// Shows that nothing moves for so long, and counts down.
    pub(crate) fn wait(&mut self, why: String, wait: Duration) {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let bar = self.screen.insert_before(&self.total, bar);
        self.waiting = Some(Countdown::on(bar, why, wait));
    }

    /// Takes the bars off the screen while `print` writes to it.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        self.screen.suspend(print);
    }
}

impl Layer {
    fn put(&mut self, screen: &MultiProgress, total: &ProgressBar) {
        if !self.shown {
            self.bar = screen.insert_before(total, self.bar.clone());
            self.shown = true;
        }
    }

    /// Shows a word instead of bytes; where there is no room, nothing.
    fn say(&mut self, word: &'static str, crowded: bool) {
        self.moving = false;
        self.bar.set_style(word_style());
        if crowded {
            self.bar.finish_and_clear();
        } else {
            self.bar.set_message(word);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.waiting = None;
        // What was cleared would come back if it were abandoned.
        for layer in self
            .layers
            .values()
            .filter(|layer| !layer.bar.is_finished())
        {
            layer.bar.disable_steady_tick();
            layer.bar.abandon();
        }
        self.total.finish_and_clear();
    }
}

/// A line that counts down to the next try, and goes when this is dropped.
pub(crate) struct Countdown(ProgressBar);

impl Countdown {
    /// Starts counting on the terminal behind `stream`, which shows nothing else yet.
    pub(crate) fn new(stream: Stream, why: String, wait: Duration) -> Self {
        let bar = ProgressBar::with_draw_target(None, target(stream));
        Self::on(bar, why, wait)
    }

    fn on(bar: ProgressBar, why: String, wait: Duration) -> Self {
        bar.set_style(countdown_style(wait));
        bar.set_prefix(why);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }
}

impl Drop for Countdown {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn target(stream: Stream) -> ProgressDrawTarget {
    match stream {
        Stream::Stdout => ProgressDrawTarget::stdout(),
        Stream::Stderr => ProgressDrawTarget::stderr(),
    }
}

/// Returns the rows and columns of the terminal; 24 and 80 if it does not say.
fn size_of_terminal(stream: Stream) -> (usize, usize) {
    let terminal = match stream {
        Stream::Stdout => rustix::stdio::stdout(),
        Stream::Stderr => rustix::stdio::stderr(),
    };
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            (usize::from(size.ws_row), usize::from(size.ws_col))
        }
        _ => (24, 80),
    }
}

fn word_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix}: {msg}").expect("the template is a constant")
}

fn bytes_style(bar_width: usize) -> ProgressStyle {
    let bar = bar(bar_width);
    ProgressStyle::with_template(&format!(
        "{{prefix}}: {{msg:<12}} {bar}{{received}}/{{size}}"
    ))
    .expect("only a width varies in the template")
    .progress_chars("=> ")
    .with_key("received", received)
    .with_key("size", size)
}

/// `e3b0c44298fc: Retrying in 4 seconds`, of a wait that begins now.
fn countdown_style(wait: Duration) -> ProgressStyle {
    let end = Instant::now() + wait;
    let countdown = move |_: &ProgressState, out: &mut dyn Write| {
        // Rounded up: the last second is shown as one.
        let left = end.saturating_duration_since(Instant::now()) + Duration::from_millis(999);
        write!(out, "{}", seconds(left)).ok();
    };
    ProgressStyle::with_template("{prefix}: Retrying in {countdown}")
        .expect("the template is a constant")
        .with_key("countdown", countdown)
}

fn total_style(bar_width: usize, tally: &Arc<Mutex<Tally>>) -> ProgressStyle {
    let bar = bar(bar_width);
    let (pace, remaining) = (Arc::clone(tally), Arc::clone(tally));
    ProgressStyle::with_template(&format!(
        "Total:  {{percent:>3}}%  {{rate:<12}} {bar}{{received}}/{{size}}  {{left}}"
    ))
    .expect("only a width varies in the template")
    .progress_chars("=> ")
    .with_key("received", received)
    .with_key("size", size)
    .with_key("rate", move |_: &ProgressState, out: &mut dyn Write| {
        let tally = pace.lock().unwrap_or_else(PoisonError::into_inner);
        write!(out, "{}/s", human::size(tally.rate(Instant::now()), 3)).ok();
    })
    .with_key("left", move |_: &ProgressState, out: &mut dyn Write| {
        let tally = remaining.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_str(&tally.left(Instant::now())).ok();
    })
}

fn bar(width: usize) -> String {
    if width < 4 {
        return String::new();
    }
    format!("[{{bar:{width}}}] ")
}

// The writers here write to a line of text, which cannot fail.

fn received(state: &ProgressState, out: &mut dyn Write) {
    write!(out, "{}", human::size(state.pos(), 4)).ok();
}

fn size(state: &ProgressState, out: &mut dyn Write) {
    write!(out, "{}", human::size(state.len().unwrap_or(0), 4)).ok();
}
