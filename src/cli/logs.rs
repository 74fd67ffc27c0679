//! `ddock logs`.

mod when;

use crate::cli::failure::{Refusal, Told};
use crate::cli::output::{self, Closed, Stream as Output};
use crate::container::log::{Entry, Reader, Stream};
use crate::container::{self, Record};
use crate::engine::place;
use crate::human;
use crate::options::Driver;
use crate::store::{NotFound, Store};
use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::stdio::stdout;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;
use when::When;

/// How much is gathered before it is written, in bytes.
const BATCH: usize = 64 << 10;

/// How often is looked for more where the kernel does not tell: containers can use up what tells, which is their user's too.
const GLANCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// How often is looked whether the container's monitor lives, where nothing else happens: a monitor that was killed
/// tells nobody.
const LOOK: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// How Docker's `logs -f` ends when nobody reads it any more: by SIGPIPE.
const BROKEN_PIPE: u8 = 141;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Show only so many lines from the end, or `all`
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all",
          value_parser = tail)]
    tail: Tail,
    /// Show what was written after this: a time, a date, seconds since 1970, or a duration back from now
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    /// Show what was written before this
    #[arg(long, value_name = "WHEN")]
    until: Option<When>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// Which container: its name, its ID or the beginning of that
    container: String,
}

/// How many lines from the end; `None` is all.
#[derive(Debug, Clone, Copy)]
struct Tail(Option<usize>);

#[expect(clippy::unnecessary_wraps, reason = "clap's signature")]
fn tail(text: &str) -> Result<Tail, &'static str> {
    // As with Docker, what is no number, or a negative one, is `all`.
    Ok(Tail(text.parse().ok()))
}

/// Prints a container's log, each stream to its own.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    match show(arguments, root) {
        // Who followed it was not at its end.
        Err(error) if arguments.follow && error.is::<Closed>() => Err(Told(BROKEN_PIPE).into()),
        shown => shown,
    }
}

fn show(arguments: &Arguments, root: &Path) -> Result<()> {
    let name = &arguments.container;
    let store = place::existing(root)?;
    let store = store.ok_or_else(|| NotFound::container(name))?;
    let record = container::find(&store, name)?;
    let directory = store.container_directory(&record.id);
    if record.log.driver == Driver::None {
        return Err(
            Refusal::new("configured logging driver does not support reading")
                .code(1)
                .into(),
        );
    }
    if !directory.join("log").exists() && record.auto_remove {
        return Err(Refusal::new(format!(
            "container \"{name}\" keeps no log: it runs in the foreground with `--rm`"
        ))
        .code(1)
        .into());
    }
    let now = Utc::now();
    let mut printer = Printer {
        since: arguments.since.map(|when| when.at(now)),
        until: arguments.until.map(|when| when.at(now)),
        timestamps: arguments.timestamps,
        stream: Stream::Stdout,
        batch: Vec::new(),
        is_over: false,
    };
    let context = || format!("cannot show the log of container: {name}");
    let mut reader = match arguments.tail.0 {
        Some(most) => Reader::open_near_end(&directory, most, &mut |entry| printer.takes(entry))
            .with_context(context)?,
        None => Reader::open(&directory),
    };
    printer.is_over = false;
    // Watched before the first look, so that nothing happens in between. It goes without.
    let watch = arguments.follow.then(|| watch(&directory).ok());
    printer
        .tail(&mut reader, arguments.tail)
        .with_context(context)?;
    if let Some(watch) = watch {
        follow(&store, &record, watch.as_ref(), &mut reader, &mut printer).with_context(context)?;
    }
    printer.flush()?;
    if !container::is_running(&store, &record)? {
        reader.skip_begun();
    }
    if reader.skipped() > 0 {
        let size = human::size(reader.skipped(), 4);
        output::tell(&format!(
            "ddock: passed over {size} of the log that are no entries\n"
        ));
    }
    Ok(())
}

fn watch(directory: &Path) -> Result<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    // The log grows or is rotated, or the file that says that somebody looks after the container goes.
    let events =
        WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::MOVE_SELF;
    inotify::add_watch(&watch, directory, events).context("watching the log")?;
    Ok(watch)
}

/// Prints what is written until the container has ended.
fn follow(
    store: &Store,
    record: &Record,
    watch: Option<&OwnedFd>,
    reader: &mut Reader,
    printer: &mut Printer,
) -> Result<()> {
    loop {
        // Asked first: what was written before the end is then there to be read.
        let runs = container::is_running(store, record)?;
        while let Some(entry) = reader.next()? {
            printer.print(&entry)?;
        }
        printer.flush()?;
        if !runs || printer.is_over {
            return Ok(());
        }
        // Asked for nothing, it tells that nobody reads any more, even where there is nothing to print.
        let mut ends = vec![PollFd::from_borrowed_fd(stdout(), PollFlags::empty())];
        ends.extend(watch.map(|watch| PollFd::new(watch, PollFlags::IN)));
        let pause = if watch.is_some() { LOOK } else { GLANCE };
        retry_on_intr(|| poll(&mut ends, Some(&pause))).context("waiting for the log")?;
        if ends[0].revents().contains(PollFlags::ERR) {
            return Err(Closed.into());
        }
        let Some(watch) = watch else {
            continue;
        };
        let mut events = [0; 4096];
        match rustix::io::read(watch, &mut events) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error).context("watching the log"),
        }
    }
}

/// Puts entries on the streams that they came from.
struct Printer {
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    timestamps: bool,
    /// Gathered for this stream, and not written yet.
    stream: Stream,
    batch: Vec<u8>,
    /// What is asked for is before what is written now.
    is_over: bool,
}

impl Printer {
    /// Prints what there is already, or the end of it.
    fn tail(&mut self, reader: &mut Reader, tail: Tail) -> Result<()> {
        let mut last = VecDeque::new();
        while let Some(entry) = reader.next()? {
            let Some(most) = tail.0 else {
                self.print(&entry)?;
                continue;
            };
            if most > 0 && self.takes(&entry)? {
                last.push_back(entry);
            }
            if last.len() > most {
                last.pop_front();
            }
        }
        last.iter().try_for_each(|entry| self.print(entry))
    }

    fn takes(&mut self, entry: &Entry) -> Result<bool> {
        if self.since.is_none() && self.until.is_none() {
            return Ok(true);
        }
        let time = time(entry)?;
        self.is_over = self.until.is_some_and(|until| time > until);
        Ok(!self.is_over && self.since.is_none_or(|since| time >= since))
    }

    fn print(&mut self, entry: &Entry) -> Result<()> {
        if !self.takes(entry)? {
            return Ok(());
        }
        if entry.stream != self.stream || self.batch.len() > BATCH {
            self.flush()?;
            self.stream = entry.stream;
        }
        if self.timestamps {
            let time = time(entry)?.to_rfc3339_opts(SecondsFormat::Nanos, true);
            self.batch.extend_from_slice(time.as_bytes());
            self.batch.push(b' ');
        }
        self.batch.extend_from_slice(entry.log.as_bytes());
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let text = String::from_utf8(batch).context("a log is not UTF-8")?;
        match self.stream {
            Stream::Stdout => Output::Stdout.write(&text),
            Stream::Stderr => Output::Stderr.write(&text),
        }
    }
}

fn time(entry: &Entry) -> Result<DateTime<Utc>> {
    entry.time.parse().context("reading a time in the log")
}
