//! The flags of `ddock run`, and what they ask for together.

use crate::cli::failure::Refusal;
use crate::cli::reach::Reach;
use crate::cli::run::{PullPolicy, Run};
use crate::cli::{names, unimplemented};
use crate::human;
use crate::platform::Platform;
use crate::spec::{Network, Request};
use clap::{ArgAction, Args};
use std::path::PathBuf;

// Flags stop at the image: from there on every word belongs to the command, so both are one list.
// `-h` is the host name, as Docker has it; help is `--help` only.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    args_override_self = true,
    override_usage = "ddock run [OPTIONS] IMAGE [COMMAND] [ARG...]"
)]
#[expect(clippy::struct_excessive_bools, reason = "flags are booleans")]
pub(crate) struct Arguments {
    /// Give the command this process's standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Name the container [default: a made-up one]
    #[arg(long)]
    name: Option<String>,
    /// Host name in the container [default: the first 12 digits of its ID]
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Set an environment variable; without a value, hand on ddock's own
    #[arg(short, long, value_name = "KEY[=VALUE]", allow_hyphen_values = true)]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Directory to start in; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User to run as, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Show a directory or file of the host in the container
    #[arg(short, long, value_name = "SOURCE:TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Mount an empty directory in memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Run this program instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Network: `none` (loopback only; the default) or `host`
    #[arg(long, alias = "net", value_name = "MODE")]
    network: Option<String>,
    /// Limit memory, in bytes or with b, k, m, g
    #[arg(short, long, value_name = "BYTES", value_parser = memory, allow_negative_numbers = true)]
    memory: Option<u64>,
    /// Limit processor time, in processors: 0.5 is half of one
    #[arg(long, value_name = "NUMBER", value_parser = nano_cpus, allow_negative_numbers = true)]
    cpus: Option<u64>,
    /// Limit the number of processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Give the container nearly all the rights of the host's root
    #[arg(long)]
    privileged: bool,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// When to pull the image
    #[arg(long, value_enum, default_value = "missing", value_name = "WHEN")]
    pull: PullPolicy,
    #[command(flatten)]
    reach: Reach,
    /// Run the image made for this platform instead of the machine's own
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Option<Platform>,
    /// Look into this file first for how to log in to the registry
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Do not report on the pull
    #[arg(short, long)]
    quiet: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// The image, and the command to run in it instead of the image's own
    #[arg(value_name = "IMAGE", required = true, num_args = 1.., trailing_var_arg = true)]
    image_and_command: Vec<String>,
}

impl TryFrom<Arguments> for Run {
    type Error = Refusal;

    fn try_from(arguments: Arguments) -> Result<Self, Refusal> {
        let network = match arguments.network.as_deref() {
            None | Some("none") => Network::Private,
            Some("host") => Network::Host,
            Some(other) => return Err(unimplemented::network(other)),
        };
        if let Some(name) = &arguments.name {
            names::check(name)?;
        }
        let mut words = arguments.image_and_command.into_iter();
        Ok(Self {
            image: words.next().unwrap_or_default(),
            name: arguments.name,
            interactive: arguments.interactive,
            remove: arguments.rm,
            pull: arguments.pull,
            platform: arguments.platform,
            authfile: arguments.authfile,
            reach: arguments.reach,
            quiet: arguments.quiet,
            request: Request {
                id: String::new(),
                directory: PathBuf::new(),
                command: words.collect(),
                entrypoint: arguments.entrypoint,
                environment: arguments.env,
                environment_files: arguments.env_file,
                working_directory: arguments.workdir,
                user: arguments.user,
                hostname: arguments.hostname,
                terminal: arguments.tty,
                read_only: arguments.read_only,
                volumes: arguments.volume,
                tmpfs: arguments.tmpfs,
                network,
                // Docker: 0 is no limit.
                memory: arguments.memory.filter(|bytes| *bytes > 0),
                nano_cpus: arguments.cpus.filter(|cpus| *cpus > 0),
                pids_limit: arguments.pids_limit,
                privileged: arguments.privileged,
                capabilities_added: arguments.cap_add,
                capabilities_dropped: arguments.cap_drop,
            },
        })
    }
}

fn memory(text: &str) -> Result<u64, &'static str> {
    human::parse_bytes(text).ok_or("expected a size such as `512m` or `2g`")
}

/// Returns `1.5` as 1,500,000,000.
fn nano_cpus(text: &str) -> Result<u64, &'static str> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
        return Err("expected a number such as `0.5` or `2`");
    }
    if fraction.len() > 9 {
        return Err("there are at most nine digits after the point");
    }
    let digits = format!("{whole}{fraction:0<9}");
    digits.parse().map_err(|_| "that is too many processors")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;
    use crate::cli::command_line::{Parsed, parse};

    /// What `ddock <line>` asks for, split at blanks.
    fn parsed(line: &str) -> Result<Run, Refusal> {
        let words = format!("ddock {line}");
        let words = words.split_whitespace().map(Into::into).collect();
        match parse(words)? {
            Parsed::Command(arguments) => match arguments.command {
                Command::Run(arguments) => (*arguments).try_into(),
                other => panic!("{line}: {other:?}"),
            },
            Parsed::Text(text) => panic!("{line}: {text}"),
        }
    }

    #[test]
    fn flags_stop_at_the_image() {
        for (line, image, command) in [
            ("run alpine", "alpine", &[][..]),
            ("run alpine ls -l", "alpine", &["ls", "-l"]),
            ("run alpine -it --rm", "alpine", &["-it", "--rm"]),
            ("run --rm alpine -- ls", "alpine", &["--", "ls"]),
            ("run -- alpine --help", "alpine", &["--help"]),
            ("run -i alpine run -t", "alpine", &["run", "-t"]),
            ("container run alpine --version", "alpine", &["--version"]),
            ("--root /x run alpine --bogus", "alpine", &["--bogus"]),
        ] {
            let run = parsed(line).unwrap();
            assert_eq!(
                (run.image.as_str(), run.request.command),
                (image, owned(command)),
                "{line}"
            );
        }
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().copied().map(Into::into).collect()
    }

    #[test]
    fn switches_combine_and_take_values() {
        for (line, expected) in [
            ("run x", (false, false, false)),
            ("run -it x", (true, true, false)),
            ("run -ti --rm x", (true, true, true)),
            ("run --interactive --tty --rm=true x", (true, true, true)),
            ("run -i=false -t=1 --rm=F x", (false, true, false)),
            ("run --rm --rm=false x", (false, false, false)),
            ("run -it=false x", (true, false, false)),
            ("run -ith box --rm x", (true, true, true)),
        ] {
            let run = parsed(line).unwrap();
            assert_eq!(
                (run.interactive, run.request.terminal, run.remove),
                expected,
                "{line}"
            );
            assert_eq!(run.image, "x", "{line}");
        }
    }

    #[test]
    fn every_flag_arrives() {
        let run = parsed(
            "run -q --name box -h inside -e A=1 -eB --env=C=-3 --env-file f -w /w -u 1:2 -v /a:/b:ro -v=/c:/d \
             --tmpfs /t:size=1m --entrypoint /e --read-only --net host -m 64m --cpus 1.5 --pids-limit -1 \
             --privileged --cap-add ALL --cap-drop kill --pull always --platform linux/arm64 img cmd",
        )
        .unwrap();
        let shape = (
            run.name.as_deref(),
            run.pull,
            run.quiet,
            run.platform.map(|p| p.to_string()),
        );
        assert_eq!(
            shape,
            (
                Some("box"),
                PullPolicy::Always,
                true,
                Some("linux/arm64".to_owned())
            )
        );
        insta::assert_compact_debug_snapshot!(run.request, @r#"
        Request { id: "", directory: "", command: ["cmd"], entrypoint: Some("/e"), environment: ["A=1", "B", "C=-3"], environment_files: ["f"], working_directory: Some("/w"), user: Some("1:2"), hostname: Some("inside"), terminal: false, read_only: true, volumes: ["/a:/b:ro", "/c:/d"], tmpfs: ["/t:size=1m"], network: Host, memory: Some(67108864), nano_cpus: Some(1500000000), pids_limit: Some(-1), privileged: true, capabilities_added: ["ALL"], capabilities_dropped: ["kill"] }
        "#);
    }

    #[test]
    fn zero_is_no_limit() {
        let request = parsed("run -m 0 --cpus 0 x").unwrap().request;
        assert_eq!((request.memory, request.nano_cpus), (None, None));
    }

    #[test]
    fn processors_are_counted_exactly() {
        for (text, expected) in [
            ("2", Ok(2_000_000_000)),
            ("0.1", Ok(100_000_000)),
            (".5", Ok(500_000_000)),
            ("1.", Ok(1_000_000_000)),
            ("0.000000001", Ok(1)),
        ] {
            assert_eq!(nano_cpus(text), expected, "{text}");
        }
        for bad in ["", ".", "-1", "1e3", "x", "0.0000000001", "99999999999999"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }
}
