//! A pull on a terminal: a bar for each layer and one for the whole.

use crate::cli::output::Stream;
use crate::cli::progress::word;
use crate::human;
use crate::pull::{LayerId, LayerState};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::collections::HashMap;
use std::fmt::Write;

/// The widest bar, in columns.
const MAX_BAR: usize = 32;

/// The bars of one pull. They stay as they are when this is dropped, but for the total, which goes.
pub(crate) struct Bars {
    screen: MultiProgress,
    /// More layers than the screen has lines: only those that move are shown.
    crowded: bool,
    /// In columns; 0 where there is no room.
    bar_width: usize,
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
        let (rows, columns) = size_of_terminal(stream);
        // The longest total: `Total:  100%  1.27GB/s     [] 4.168GB/4.631GB  17m30s left`
        let bar_width = columns.saturating_sub(63).min(MAX_BAR);
        // The total and the line that the cursor is on need room too.
        let crowded = layers.len() + 2 > rows;
        let total = screen.add(ProgressBar::new(0).with_style(total_style(bar_width)));
        let mut bars = Self {
            screen,
            crowded,
            bar_width,
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
                    layer.bar.set_style(bytes_style(self.bar_width));
                    layer.moving = true;
                }
                layer.bar.set_message("Downloading");
                layer.advance(received, &self.total);
            }
            LayerState::DownloadComplete => {
                layer.advance(layer.size, &self.total);
                layer.bar.set_style(word_style());
                if self.crowded {
                    layer.bar.finish_and_clear();
                } else {
                    layer.bar.set_message("Extracting");
                }
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
        // What was cleared would come back if it were abandoned.
        for layer in self
            .layers
            .values()
            .filter(|layer| !layer.bar.is_finished())
        {
            layer.bar.abandon();
        }
        self.total.finish_and_clear();
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

fn total_style(bar_width: usize) -> ProgressStyle {
    let bar = bar(bar_width);
    ProgressStyle::with_template(&format!(
        "Total:  {{percent:>3}}%  {{rate:<12}} {bar}{{received}}/{{size}}  {{left}}"
    ))
    .expect("only a width varies in the template")
    .progress_chars("=> ")
    .with_key("received", received)
    .with_key("size", size)
    .with_key("rate", rate)
    .with_key("left", left)
}

fn bar(width: usize) -> String {
    if width < 4 {
        return String::new();
    }
    format!("[{{bar:{width}}}] ")
}

// The writers below write to a line of text, which cannot fail.

fn rate(state: &ProgressState, out: &mut dyn Write) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "three digits are shown"
    )]
    let bytes = state.per_sec().max(0.0) as u64;
    write!(out, "{}/s", human::size(bytes, 3)).ok();
}

fn left(state: &ProgressState, out: &mut dyn Write) {
    let seconds = state.eta().as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => write!(out, "{seconds}s left").ok(),
        (minutes @ ..60, seconds) => write!(out, "{minutes}m{seconds:02}s left").ok(),
        (minutes, _) => write!(out, "{}h{:02}m left", minutes / 60, minutes % 60).ok(),
    };
}

fn received(state: &ProgressState, out: &mut dyn Write) {
    write!(out, "{}", human::size(state.pos(), 4)).ok();
}

fn size(state: &ProgressState, out: &mut dyn Write) {
    write!(out, "{}", human::size(state.len().unwrap_or(0), 4)).ok();
}
