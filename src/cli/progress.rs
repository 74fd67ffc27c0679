//! A pull as the user sees it: bars on a terminal, plain lines elsewhere, the closing lines on both.

mod bars;

use crate::cli::output::{self, Stream};
use crate::human;
use crate::pull::{Event, LayerId, LayerState, Pulled};
use crate::reference::Reference;
use anyhow::Result;
use bars::Bars;
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How a pull is shown. It may be told of events by several threads.
pub(crate) struct Progress {
    stream: Stream,
    quiet: bool,
    state: Mutex<State>,
}

enum State {
    /// Nothing was heard from the registry yet.
    Asking,
    Lines(Lines),
    Bars(Bars),
    /// The stream was closed or full: this is how the pull will be reported to have failed.
    Broken(anyhow::Error),
}

impl State {
    /// Puts a line beside the show.
    fn tell(&self, text: &str) {
        match self {
            Self::Bars(bars) => bars.suspend(|| output::tell(text)),
            _ => output::tell(text),
        }
    }
}

impl Progress {
    /// Shows a pull on `stream`; if `quiet`, only warnings and the image's name at the end.
    pub(crate) fn new(stream: Stream, quiet: bool) -> Self {
        Self {
            stream,
            quiet,
            state: Mutex::new(State::Asking),
        }
    }

    /// Shows one step.
    pub(crate) fn event(&self, event: Event) {
        // A poisoned lock means that another thread panicked while drawing; drawing on is harmless.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = match event {
            Event::Note(text) => {
                state.tell(&format!("{}\n", human::printable(&text)));
                Ok(())
            }
            _ if self.quiet => Ok(()),
            Event::Waiting { why, wait } => {
                let text = format!(
                    "{}; retrying in {}\n",
                    human::printable(&why),
                    seconds(wait)
                );
                state.tell(&text);
                Ok(())
            }
            Event::Kept(bytes) => {
                let kept = human::size(bytes, 3);
                let text = format!("{kept} are kept: pulling again goes on from there\n");
                state.tell(&text);
                Ok(())
            }
            Event::Started { reference, layers } => {
                let shown = self.stream.write(&from_line(&reference));
                *state = if self.stream.is_terminal() {
                    State::Bars(Bars::new(self.stream, &layers))
                } else {
                    State::Lines(Lines::default())
                };
                shown
            }
            Event::Layer { id, state: layer } => match &mut *state {
                State::Bars(bars) => {
                    bars.show(&id, layer);
                    Ok(())
                }
                State::Lines(lines) => match lines.next(&id, layer) {
                    Some(line) => self.stream.write(&line),
                    None => Ok(()),
                },
                State::Asking | State::Broken(_) => Ok(()),
            },
        };
        if let Err(error) = shown {
            *state = State::Broken(error);
        }
    }

    /// Ends the show with Docker's closing lines: the digest, what happened, and for `pull` itself the full reference.
    pub(crate) fn finish(self, pulled: &Pulled) -> Result<()> {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let started = match state {
            State::Broken(error) => return Err(error),
            State::Asking => false,
            State::Lines(_) => true,
            State::Bars(bars) => {
                drop(bars);
                true
            }
        };
        self.stream
            .write(&closing_lines(pulled, self.stream, self.quiet, started))
    }
}

/// `latest: Pulling from library/ubuntu`
fn from_line(reference: &Reference) -> String {
    let what = match (reference.digest(), reference.tag()) {
        (None, Some(tag)) => tag.to_owned(),
        _ => reference.to_string(),
    };
    format!("{what}: Pulling from {}\n", reference.repository())
}

fn closing_lines(pulled: &Pulled, stream: Stream, quiet: bool, started: bool) -> String {
    let reference = &pulled.reference;
    // Beside a container's own output the name would be too much.
    let name = match stream {
        Stream::Stdout => format!("{reference}\n"),
        Stream::Stderr => String::new(),
    };
    if quiet {
        return name;
    }
    let from = if started {
        String::new()
    } else {
        from_line(reference)
    };
    let status = if pulled.newer {
        "Downloaded newer image"
    } else {
        "Image is up to date"
    };
    format!(
        "{from}Digest: {}\nStatus: {status} for {}\n{name}",
        pulled.digest,
        reference.familiar()
    )
}

/// `1 second`, `12 seconds`.
fn seconds(wait: Duration) -> String {
    let seconds = wait.as_secs().max(1);
    let plural = if seconds == 1 { "" } else { "s" };
    format!("{seconds} second{plural}")
}

/// The state that each layer was last shown in, so that only changes make a line.
#[derive(Default)]
struct Lines(HashMap<LayerId, Discriminant<LayerState>>);

impl Lines {
    fn next(&mut self, id: &LayerId, state: LayerState) -> Option<String> {
        let kind = discriminant(&state);
        if self.0.insert(id.clone(), kind) == Some(kind) {
            return None;
        }
        Some(format!("{}: {}\n", id.short(), word(state)?))
    }
}

/// Returns Docker's word for what a layer does; none while bytes flow.
fn word(state: LayerState) -> Option<String> {
    Some(match state {
        LayerState::Waiting { .. } => "Pulling fs layer".to_owned(),
        LayerState::AlreadyExists => "Already exists".to_owned(),
        LayerState::Downloading { .. } => return None,
        LayerState::Retrying { after } => {
            format!("Retrying in {}", seconds(after))
        }
        LayerState::DownloadComplete => "Download complete".to_owned(),
        LayerState::PullComplete => "Pull complete".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use std::time::Duration;

    fn pulled(reference: &str, newer: bool) -> Pulled {
        Pulled {
            reference: reference.parse().unwrap(),
            digest: Digest::of(b"index"),
            image: Digest::of(b"config"),
            newer,
        }
    }

    #[test]
    fn one_line_a_change_of_a_layer() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let mut lines = Lines::default();
        let text: String = [
            (&a, LayerState::Waiting { size: 10 }),
            (&b, LayerState::AlreadyExists),
            (
                &a,
                LayerState::Downloading {
                    received: 1,
                    size: 10,
                },
            ),
            (
                &a,
                LayerState::Downloading {
                    received: 5,
                    size: 10,
                },
            ),
            (
                &a,
                LayerState::Retrying {
                    after: Duration::from_secs(5),
                },
            ),
            (
                &a,
                LayerState::Downloading {
                    received: 9,
                    size: 10,
                },
            ),
            (
                &a,
                LayerState::Retrying {
                    after: Duration::from_millis(10),
                },
            ),
            (&a, LayerState::DownloadComplete),
            (&a, LayerState::DownloadComplete),
            (&a, LayerState::PullComplete),
        ]
        .into_iter()
        .filter_map(|(id, state)| lines.next(id, state))
        .collect();
        insta::assert_snapshot!(text, @r"
        ca978112ca1b: Pulling fs layer
        3e23e8160039: Already exists
        ca978112ca1b: Retrying in 5 seconds
        ca978112ca1b: Retrying in 1 second
        ca978112ca1b: Download complete
        ca978112ca1b: Pull complete
        ");
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
        let new = closing_lines(&pulled("ubuntu", true), Stream::Stdout, false, true);
        insta::assert_snapshot!(new, @r"
        Digest: sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6
        Status: Downloaded newer image for ubuntu:latest
        docker.io/library/ubuntu:latest
        ");
        let same = closing_lines(&pulled("a.b/c:1", false), Stream::Stdout, false, false);
        insta::assert_snapshot!(same, @r"
        1: Pulling from c
        Digest: sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6
        Status: Image is up to date for a.b/c:1
        a.b/c:1
        ");
        let beside_a_run = closing_lines(&pulled("ubuntu", true), Stream::Stderr, false, true);
        insta::assert_snapshot!(beside_a_run, @r"
        Digest: sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6
        Status: Downloaded newer image for ubuntu:latest
        ");
    }

    #[test]
    fn quiet_says_the_name_only_and_nothing_beside_a_run() {
        let image = pulled("ubuntu", true);
        assert_eq!(
            closing_lines(&image, Stream::Stdout, true, false),
            "docker.io/library/ubuntu:latest\n"
        );
        assert_eq!(closing_lines(&image, Stream::Stderr, true, false), "");
    }
}
