//! A pull on a terminal: a bar for each layer and one for the whole.

use crate::cli::output::Stream;
use crate::cli::progress::word;
use crate::human;
use crate::pull::{LayerId, LayerState};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::collections::HashMap;
use std::fmt::Write;

/// The bars of one pull. They stay as they are when this is dropped, but for the total, which goes.
pub(crate) struct Bars {
    screen: MultiProgress,
    /// More layers than the screen has lines: only those that move are shown.
    crowded: bool,
    layers: HashMap<LayerId, Layer>,
    total: ProgressBar,
}

struct Layer {
    bar: ProgressBar,
    /// It shows bytes, not only a word.
    moving: bool,
    /// Compressed bytes that the total counts for this layer.
    received: u64,
    size: u64,
}

impl Bars {
    /// Puts a line for each layer on the terminal behind `stream`, in their order.
    pub(crate) fn new(stream: Stream, layers: &[LayerId]) -> Self {
        let target = match stream {
            Stream::Stdout => ProgressDrawTarget::stdout(),
            Stream::Stderr => ProgressDrawTarget::stderr(),
        };
        let screen = MultiProgress::with_draw_target(target);
        // The total and the line that the cursor is on need room too.
        let crowded = layers.len() + 2 > rows();
        let total = screen.add(ProgressBar::new(0).with_style(total_style()));
        let mut bars = Self {
            screen,
            crowded,
            layers: HashMap::new(),
            total,
        };
        for id in layers {
            bars.add(id);
        }
        bars
    }

    fn add(&mut self, id: &LayerId) {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden())
            .with_style(word_style())
            .with_prefix(id.short().to_owned());
        let layer = Layer {
            bar: if self.crowded {
                bar
            } else {
                self.screen.insert_before(&self.total, bar)
            },
            moving: false,
            received: 0,
            size: 0,
        };
        // A layer may be listed twice; it is fetched once.
        self.layers.entry(id.clone()).or_insert(layer);
    }

    /// Shows that the layer `id` is in `state` now.
    pub(crate) fn show(&mut self, id: &LayerId, state: LayerState) {
        let Some(layer) = self.layers.get_mut(id) else {
            return;
        };
        match state {
            LayerState::Waiting { size } => {
                layer.expect(size, &self.total);
                layer.bar.set_message("Waiting");
            }
            LayerState::Downloading { received, size } => {
                layer.expect(size, &self.total);
                if !layer.moving {
                    if self.crowded {
                        self.screen.insert_before(&self.total, layer.bar.clone());
                    }
                    layer.bar.set_style(bytes_style());
                    layer.moving = true;
                }
                layer.bar.set_message("Downloading");
                layer.advance(received, &self.total);
            }
            LayerState::DownloadComplete => {
                layer.advance(layer.size, &self.total);
                layer.bar.set_style(word_style());
                layer.bar.set_message("Extracting");
            }
            LayerState::Retrying { .. } => {
                layer.bar.set_message(word(state).unwrap_or_default());
            }
            LayerState::AlreadyExists | LayerState::PullComplete => {
                layer.advance(layer.size, &self.total);
                layer.bar.set_style(word_style());
                if self.crowded {
                    layer.bar.finish_and_clear();
                } else {
                    layer
                        .bar
                        .finish_with_message(word(state).unwrap_or_default());
                }
            }
        }
    }

    /// Takes the bars off the screen while `print` writes to it.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        self.screen.suspend(print);
    }
}

impl Layer {
    fn expect(&mut self, size: u64, total: &ProgressBar) {
        if size != self.size {
            total.set_length(total.length().unwrap_or(0) - self.size + size);
            self.size = size;
            self.bar.set_length(size);
        }
    }

    fn advance(&mut self, received: u64, total: &ProgressBar) {
        // A retry may have to start again; the total goes back with it.
        total.set_position((total.position() + received).saturating_sub(self.received));
        self.received = received;
        self.bar.set_position(received);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for layer in self.layers.values() {
            layer.bar.abandon();
        }
        self.total.finish_and_clear();
    }
}

/// Returns how many rows the terminal has; 24 if it does not say.
fn rows() -> usize {
    [rustix::stdio::stdout(), rustix::stdio::stderr()]
        .into_iter()
        .find_map(|terminal| rustix::termios::tcgetwinsize(terminal).ok())
        .map(|size| usize::from(size.ws_row))
        .filter(|rows| *rows > 0)
        .unwrap_or(24)
}

fn word_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix}: {msg}").expect("the template is a constant")
}

fn bytes_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix}: {msg:<12} [{bar:32}] {received}/{size}")
        .expect("the template is a constant")
        .progress_chars("=> ")
        .with_key("received", received)
        .with_key("size", size)
}

fn total_style() -> ProgressStyle {
    ProgressStyle::with_template(
        "Total:        {percent:>3}%         [{bar:32}] {received}/{size}  {rate}  {left}",
    )
    .expect("the template is a constant")
    .progress_chars("=> ")
    .with_key("received", received)
    .with_key("size", size)
    .with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "three digits are shown"
        )]
        let bytes = state.per_sec().max(0.0) as u64;
        // Writing to a line of text cannot fail.
        write!(out, "{}/s", human::size(bytes, 3)).ok();
    })
    .with_key("left", |state: &ProgressState, out: &mut dyn Write| {
        let seconds = state.eta().as_secs();
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        match minutes {
            0 => write!(out, "{seconds}s left").ok(),
            _ => write!(out, "{minutes}m{seconds:02}s left").ok(),
        };
    })
}

fn received(state: &ProgressState, out: &mut dyn Write) {
    write!(out, "{}", human::size(state.pos(), 4)).ok();
}

fn size(state: &ProgressState, out: &mut dyn Write) {
    write!(out, "{}", human::size(state.len().unwrap_or(0), 4)).ok();
}
