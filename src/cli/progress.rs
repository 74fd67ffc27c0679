//! A pull as the user sees it: bars on a terminal, a line now and then in a log, objects for programs.

mod bars;
mod json;
mod plain;
mod tally;

use crate::cli::failure::Refusal;
use crate::cli::output::{self, Stream};
use crate::human;
use crate::pull::{Event, LayerId, LayerState, Pulled};
use crate::reference::Reference;
use anyhow::Result;
use bars::{Bars, Countdown};
use clap::ValueEnum;
use json::Json;
use plain::Plain;
use serde_json::json;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What `--progress` may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Bars on a terminal, else plain
    Auto,
    /// Bars, one for each layer
    Tty,
    /// At most a line every 5 seconds
    Plain,
    /// An object a line
    Json,
    /// Only how it ended
    None,
}

/// How pulls are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    stream: Stream,
    /// Never [`Mode::Auto`].
    mode: Mode,
    /// Only warnings, and the image's name at the end.
    quiet: bool,
}

impl Style {
    /// Returns how pulls are shown on `stream`. Refuses bars where there is no terminal to draw them on.
    pub(crate) fn new(stream: Stream, mode: Mode, quiet: bool) -> Result<Self, Refusal> {
        let mode = match mode {
            Mode::Auto if stream.is_terminal() && can_draw() => Mode::Tty,
            Mode::Auto => Mode::Plain,
            Mode::Tty if !quiet && !stream.is_terminal() => {
                return Err(Refusal::new("`--progress tty` needs a terminal to draw on")
                    .hint("`--progress plain` writes lines for a log")
                    .code(1));
            }
            mode => mode,
        };
        Ok(Self {
            stream,
            mode,
            quiet,
        })
    }

    /// Tells whether lines for people are wanted beside how it ended.
    pub(crate) fn is_talkative(self) -> bool {
        !self.quiet && matches!(self.mode, Mode::Tty | Mode::Plain)
    }

    fn view(self) -> View {
        match self.mode {
            _ if self.quiet => View::Silent,
            Mode::Json => View::Json(Json::default()),
            Mode::None => View::Silent,
            Mode::Tty => View::Blank(None),
            Mode::Auto | Mode::Plain => View::Plain(Plain::new(Instant::now())),
        }
    }

    /// Writes Docker's closing lines of a pull of all tags of the repository of `reference`.
    pub(crate) fn finish_all(self, reference: &Reference, newer: bool) -> Result<()> {
        if self.mode == Mode::Json && !self.quiet {
            return Ok(());
        }
        let name = format!("{}/{}\n", reference.registry(), reference.repository());
        let status = if self.quiet {
            String::new()
        } else {
            format!(
                "Status: {} for {}\n",
                status(newer),
                reference.familiar_name()
            )
        };
        self.stream.write(&format!("{status}{name}"))
    }
}

/// Tells whether the terminal can be drawn on: one that does not say what it is gets lines.
fn can_draw() -> bool {
    std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb")
}

/// A pull that is shown. It may be told of events by several threads.
pub(crate) struct Progress {
    style: Style,
    state: Mutex<State>,
}

struct State {
    view: View,
    /// The registry answered, and the first line was written.
    started: bool,
}

enum View {
    Silent,
    Plain(Plain),
    Json(Json),
    /// A terminal with no layers on it yet.
    Blank(Option<Countdown>),
    Bars(Bars),
    /// The stream was closed or full: this is how the pull will be reported to have failed.
    Broken(anyhow::Error),
}

impl View {
    /// Puts a line beside the show.
    fn tell(&mut self, text: &str) {
        match self {
            Self::Bars(bars) => bars.suspend(|| output::tell(text)),
            Self::Blank(countdown) => {
                *countdown = None;
                output::tell(text);
            }
            _ => output::tell(text),
        }
    }
}

impl Progress {
    /// Begins to show a pull.
    pub(crate) fn new(style: Style) -> Self {
        Self {
            style,
            state: Mutex::new(State {
                view: style.view(),
                started: false,
            }),
        }
    }

    /// Shows one step.
    pub(crate) fn event(&self, event: Event) {
        // A poisoned lock means that another thread panicked while drawing; drawing on is harmless.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.show(&mut state, event) {
            state.view = View::Broken(error);
        }
    }

    fn show(&self, state: &mut State, event: Event) -> Result<()> {
        let stream = self.style.stream;
        let now = Instant::now();
        match event {
            Event::Note(text) => {
                state.view.tell(&format!("{}\n", human::printable(&text)));
            }
            Event::Kept(bytes) => {
                if !self.style.quiet {
                    let kept = human::size(bytes, 3);
                    let text = format!("{kept} are kept: pulling again goes on from there\n");
                    state.view.tell(&text);
                }
            }
            Event::Waiting { why, wait } => match &mut state.view {
                View::Plain(plain) => {
                    if let Some(line) = plain.wait(&why, wait, now) {
                        output::tell(&line);
                    }
                }
                View::Json(_) => stream.write(&waiting_object(&why, wait))?,
                View::Blank(countdown) => {
                    // The one before goes first: both would be on one line.
                    *countdown = None;
                    *countdown = Some(Countdown::new(stream, human::printable(&why), wait));
                }
                View::Bars(bars) => bars.wait(human::printable(&why), wait),
                View::Silent | View::Broken(_) => {}
            },
            Event::Started { reference, layers } => {
                state.started = true;
                self.start(&mut state.view, &reference, &layers)?;
            }
            Event::Layer { id, state: layer } => {
                let line = match &mut state.view {
                    View::Bars(bars) => {
                        bars.show(&id, layer);
                        None
                    }
                    View::Plain(plain) => plain.next(&id, layer, now),
                    View::Json(json) => json.next(&id, layer, now),
                    View::Blank(_) | View::Silent | View::Broken(_) => None,
                };
                if let Some(line) = line {
                    stream.write(&line)?;
                }
            }
        }
        Ok(())
    }

    fn start(&self, view: &mut View, reference: &Reference, layers: &[LayerId]) -> Result<()> {
        let stream = self.style.stream;
        match view {
            View::Json(_) => stream.write(&started_object(reference))?,
            View::Plain(plain) => {
                plain.start(layers, Instant::now());
                stream.write(&from_line(reference))?;
            }
            View::Blank(countdown) => {
                *countdown = None;
                stream.write(&from_line(reference))?;
                *view = View::Bars(Bars::new(stream, layers));
            }
            View::Bars(_) | View::Silent | View::Broken(_) => {}
        }
        Ok(())
    }

    /// Ends the show with Docker's closing lines: the digest, what happened, and for `pull` itself the full reference.
    pub(crate) fn finish(self, pulled: &Pulled) -> Result<()> {
        let style = self.style;
        let started = self.end()?;
        style.stream.write(&closing_lines(pulled, style, started))
    }

    /// Ends the show of one tag of many with its digest; [`Style::finish_all`] ends the whole.
    pub(crate) fn finish_one(self, pulled: &Pulled) -> Result<()> {
        let style = self.style;
        let started = self.end()?;
        let text = match style.mode {
            _ if style.quiet => return Ok(()),
            Mode::Json => closing_object(pulled),
            _ => format!("{}{}", first_line(pulled, style, started), digest(pulled)),
        };
        style.stream.write(&text)
    }

    /// Takes what moves off the screen. Tells whether the first line was written.
    fn end(self) -> Result<bool> {
        let state = self.state.into_inner();
        let State { view, started } = state.unwrap_or_else(PoisonError::into_inner);
        match view {
            View::Broken(error) => Err(error),
            _ => Ok(started),
        }
    }
}

/// `latest: Pulling from library/ubuntu`
fn from_line(reference: &Reference) -> String {
    format!(
        "{}: Pulling from {}\n",
        what(reference),
        reference.repository()
    )
}

/// Returns the tag, or the whole reference if it has a digest.
fn what(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (None, Some(tag)) => tag.to_owned(),
        _ => reference.to_string(),
    }
}

/// Returns the first line if it is still missing: nothing had to be fetched.
fn first_line(pulled: &Pulled, style: Style, started: bool) -> String {
    if started || !style.is_talkative() {
        String::new()
    } else {
        from_line(&pulled.reference)
    }
}

fn digest(pulled: &Pulled) -> String {
    format!("Digest: {}\n", pulled.digest)
}

fn status(newer: bool) -> &'static str {
    if newer {
        "Downloaded newer image"
    } else {
        "Image is up to date"
    }
}

fn closing_lines(pulled: &Pulled, style: Style, started: bool) -> String {
    let reference = &pulled.reference;
    // Beside a container's own output the name would be too much.
    let name = match style.stream {
        Stream::Stdout => format!("{reference}\n"),
        Stream::Stderr => String::new(),
    };
    match style.mode {
        _ if style.quiet => name,
        Mode::Json => closing_object(pulled),
        _ => format!(
            "{}{}Status: {} for {}\n{name}",
            first_line(pulled, style, started),
            digest(pulled),
            status(pulled.newer),
            reference.familiar()
        ),
    }
}

fn started_object(reference: &Reference) -> String {
    let status = format!("Pulling from {}", reference.repository());
    json::line(&json!({"id": what(reference), "status": status}))
}

fn waiting_object(why: &str, wait: Duration) -> String {
    let status = format!("Retrying in {}", seconds(wait));
    json::line(&json!({"status": status, "reason": why}))
}

fn closing_object(pulled: &Pulled) -> String {
    let reference = &pulled.reference;
    let status = format!("{} for {}", status(pulled.newer), reference.familiar());
    json::line(&json!({
        "status": status,
        "digest": pulled.digest.to_string(),
        "name": reference.to_string(),
    }))
}

/// `1 second`, `12 seconds`.
fn seconds(wait: Duration) -> String {
    let seconds = wait.as_secs().max(1);
    let plural = if seconds == 1 { "" } else { "s" };
    format!("{seconds} second{plural}")
}

/// Returns Docker's word for what a layer does.
fn word(state: LayerState) -> &'static str {
    match state {
        LayerState::Waiting { .. } => "Pulling fs layer",
        LayerState::AlreadyExists => "Already exists",
        LayerState::Downloading { .. } => "Downloading",
        LayerState::Retrying { .. } => "Retrying",
        LayerState::DownloadComplete => "Download complete",
        LayerState::PullComplete => "Pull complete",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    const OUT: Style = Style {
        stream: Stream::Stdout,
        mode: Mode::Plain,
        quiet: false,
    };

    fn pulled(reference: &str, newer: bool) -> Pulled {
        Pulled {
            reference: reference.parse().unwrap(),
            digest: Digest::of(b"index"),
            image: Digest::of(b"config"),
            newer,
        }
    }

    #[test]
    fn the_first_line_names_the_tag_or_the_whole_reference() {
        let line = |text: &str| from_line(&text.parse().unwrap());
        assert_eq!(line("ubuntu"), "latest: Pulling from library/ubuntu\n");
        assert_eq!(line("localhost:5000/a/b:1"), "1: Pulling from a/b\n");
        let digest = Digest::of(b"");
        assert_eq!(
            line(&format!("ubuntu@{digest}")),
            format!("docker.io/library/ubuntu@{digest}: Pulling from library/ubuntu\n")
        );
    }

    #[test]
    fn closing_lines_are_dockers() {
        let new = closing_lines(&pulled("ubuntu", true), OUT, true);
        insta::assert_snapshot!(new, @r"
        Digest: sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6
        Status: Downloaded newer image for ubuntu:latest
        docker.io/library/ubuntu:latest
        ");
        let same = closing_lines(&pulled("a.b/c:1", false), OUT, false);
        insta::assert_snapshot!(same, @r"
        1: Pulling from c
        Digest: sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6
        Status: Image is up to date for a.b/c:1
        a.b/c:1
        ");
        let beside = Style {
            stream: Stream::Stderr,
            ..OUT
        };
        let beside_a_run = closing_lines(&pulled("ubuntu", true), beside, true);
        insta::assert_snapshot!(beside_a_run, @r"
        Digest: sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6
        Status: Downloaded newer image for ubuntu:latest
        ");
    }

    #[test]
    fn quiet_says_the_name_only_and_nothing_beside_a_run() {
        let image = pulled("ubuntu", true);
        let quiet = |stream| Style {
            stream,
            quiet: true,
            ..OUT
        };
        assert_eq!(
            closing_lines(&image, quiet(Stream::Stdout), false),
            "docker.io/library/ubuntu:latest\n"
        );
        assert_eq!(closing_lines(&image, quiet(Stream::Stderr), false), "");
    }

    #[test]
    fn a_program_gets_the_end_as_an_object_and_none_leaves_out_the_beginning() {
        let image = pulled("ubuntu", true);
        let style = |mode| Style { mode, ..OUT };
        insta::assert_snapshot!(closing_lines(&image, style(Mode::Json), true), @r#"{"status":"Downloaded newer image for ubuntu:latest","digest":"sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6","name":"docker.io/library/ubuntu:latest"}"#);
        assert!(closing_lines(&image, style(Mode::None), false).starts_with("Digest: "));
    }
}
