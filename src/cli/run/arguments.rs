//! The flags of `ddock run`, and what they ask for together.

mod command;
mod devices;
mod files;
mod lifetime;
mod limits;
mod namespaces;
mod network;
mod networks;
mod security;
mod without_effect;

pub(crate) use lifetime::invalid_signal;

use crate::cli::failure::Refusal;
use crate::cli::pull_flags::PullFlags;
use crate::cli::run::{Explain, PullPolicy, Run, SessionOptions};
use crate::engine::container::{Naming, check_name};
use crate::options::{ContainerOptions, Root};
use crate::platform::Platform;
use anyhow::Result;
use clap::{ArgAction, Args};
use command::CommandFlags;
use devices::DeviceFlags;
use files::FileFlags;
use lifetime::LifetimeFlags;
use limits::LimitFlags;
use namespaces::NamespaceFlags;
use network::NetworkFlags;
use networks::MembershipFlags;
use security::SecurityFlags;
use without_effect::FlagsWithoutEffect;

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
    /// When to pull the image
    #[arg(long, value_enum, default_value = "missing", value_name = "WHEN")]
    pull: PullPolicy,
    #[command(flatten)]
    pull_flags: PullFlags,
    /// Run the image made for this platform instead of the machine's own
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Option<Platform>,
    /// Tell on stderr how the container is made, step by step; `json` is for programs
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text"
    )]
    explain: Option<Explain>,
    /// Print the container's OCI `config.json` instead of running it
    #[arg(long)]
    dry_run: bool,
    /// Do not report on the pull
    #[arg(short, long)]
    quiet: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    // Before the groups, each of which has a heading of its own in the help.
    /// The image, and the command to run in it instead of the image's own
    #[arg(value_name = "IMAGE", required = true, num_args = 1.., trailing_var_arg = true)]
    image_and_command: Vec<String>,
    #[command(flatten)]
    command: CommandFlags,
    #[command(flatten)]
    files: FileFlags,
    #[command(flatten)]
    namespaces: NamespaceFlags,
    #[command(flatten)]
    membership: MembershipFlags,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    devices: DeviceFlags,
    #[command(flatten)]
    security: SecurityFlags,
    #[command(flatten)]
    lifetime: LifetimeFlags,
    #[command(flatten)]
    without_effect: FlagsWithoutEffect,
}

impl Arguments {
    /// Declares the flags for `ddock create`: those of `run`, since it is the same container.
    pub(crate) fn augment_create_args(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
            .override_usage("ddock create [OPTIONS] IMAGE [COMMAND] [ARG...]")
    }
}

/// Returns the name that the user chose. Docker's own lists had it behind a slash, and scripts still write it so.
fn chosen(name: &str) -> Result<String> {
    let name = name.strip_prefix('/').unwrap_or(name);
    check_name(name)?;
    Ok(name.to_owned())
}

impl TryFrom<Arguments> for Run {
    type Error = anyhow::Error;

    /// Reads what the flags name of this process's environment and of files, and refuses what makes no sense together.
    fn try_from(arguments: Arguments) -> Result<Self> {
        let name = arguments.name.as_deref().map(chosen).transpose()?;
        let lifetime = &arguments.lifetime;
        lifetime.check(arguments.rm)?;
        let mut words = arguments.image_and_command.into_iter();
        let first = words.next().unwrap_or_default();
        let root = root(first, arguments.files.rootfs, arguments.platform.as_ref())?;
        let (publish, names) = arguments.network.read();
        let options = ContainerOptions {
            root,
            platform: arguments.platform,
            command: words.collect(),
            entrypoint: arguments.command.entrypoint(),
            working_directory: arguments.command.workdir.clone(),
            user: arguments.command.user.clone(),
            groups: arguments.command.group_add.clone(),
            umask: arguments.command.umask,
            time_zone: arguments.command.tz.clone(),
            environment: arguments.command.environment()?,
            hostname: arguments.namespaces.hostname.clone(),
            domain_name: arguments.namespaces.domainname.clone(),
            terminal: arguments.tty,
            interactive: arguments.interactive,
            attached: lifetime.attached(arguments.interactive),
            remove: arguments.rm,
            init: lifetime.init,
            timeout: lifetime.timeout.filter(|seconds| *seconds > 0),
            stop: lifetime.stop(),
            log: lifetime.log()?,
            labels: lifetime.labels()?,
            annotations: lifetime.annotations(),
            files: arguments.files.read()?,
            namespaces: arguments.namespaces.read(arguments.membership.read()?),
            names,
            publish,
            limits: arguments.limits.into(),
            devices: arguments.devices.into(),
            security: arguments.security.read()?,
        };
        options.check()?;
        Ok(Self {
            options,
            naming: Naming {
                replaces: lifetime.replace,
                name,
            },
            session: SessionOptions {
                detached: lifetime.detach,
                sig_proxy: lifetime.sig_proxy,
                detach_keys: lifetime.detach_keys.clone(),
            },
            handed: lifetime.handed(),
            cidfile: lifetime.cidfile.clone(),
            pull: arguments.pull,
            pull_flags: arguments.pull_flags,
            quiet: arguments.quiet,
            explain: arguments.explain,
            is_dry: arguments.dry_run,
        })
    }
}

/// Returns what the first word names.
fn root(first: String, is_directory: bool, platform: Option<&Platform>) -> Result<Root> {
    if !is_directory {
        return Ok(Root::Image(first));
    }
    refuse_platform(platform)?;
    Root::directory(&first)
}

/// A directory is for whatever platform it is for. What a variable says for every image means nothing to it.
fn refuse_platform(platform: Option<&Platform>) -> Result<(), Refusal> {
    let variable = std::env::var_os("DOCKER_DEFAULT_PLATFORM");
    if platform.is_some() && variable.is_none_or(|value| value.is_empty()) {
        return Err(Refusal::new(
            "conflicting options: `--platform` and `--rootfs`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command_line::{Parsed, parse};
    use clap::FromArgMatches as _;
    use std::ffi::OsString;

    /// What `ddock <line>` asks for, split at blanks.
    fn parsed(line: &str) -> Result<Run> {
        let words = format!("ddock {line}");
        parsed_words(words.split_whitespace().map(Into::into).collect())
    }

    fn parsed_words(words: Vec<OsString>) -> Result<Run> {
        match parse(words)? {
            Parsed::Command(mut call) => {
                assert_eq!(call.command.name(), "run");
                let arguments = Arguments::from_arg_matches_mut(&mut call.matches);
                arguments.unwrap().try_into()
            }
            other @ Parsed::Text(..) => panic!("{other:?}"),
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
            ("--root -x run --label -x=1 alpine -y", "alpine", &["-y"]),
            ("run -h -x -w /-rm -e -X=1 alpine", "alpine", &[]),
            ("run --hostname -- --entrypoint -x alpine", "alpine", &[]),
        ] {
            let run = parsed(line).unwrap();
            assert_eq!(
                (run.options.root.to_string().as_str(), run.options.command),
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
                (
                    run.options.interactive,
                    run.options.terminal,
                    run.options.remove
                ),
                expected,
                "{line}"
            );
            assert_eq!(run.options.root.to_string(), "x", "{line}");
        }
    }

    #[test]
    fn what_is_done_around_the_container_arrives() {
        let run =
            parsed("run -q --name box --pull always --replace -d --sig-proxy=false x").unwrap();
        assert_eq!(
            (run.naming.name.as_deref(), run.pull),
            (Some("box"), PullPolicy::Always)
        );
        assert!(run.quiet && run.naming.replaces && run.session.detached && !run.session.sig_proxy);
    }

    /// Every flag that says what the container is, with values that are not the defaults; what excludes each other is in
    /// another line.
    const EVERY_FLAG: [&str; 3] = [
        "run -it --rm --platform linux/arm64 -h inside --domainname dom -e A=1 -e DDOCK_NO_SUCH --env-file /dev/null --env-host \
         --env-merge M=${M} --unsetenv V --unsetenv-all -w /w -u 1:2 --group-add g --umask 077 --tz local --entrypoint [\"/e\",\"x\"] \
         -v /a:/b:ro,noexec -v /c:/d:idmap=uids=0-1-1 -v named:/e:nocopy -v /f --mount type=bind,src=./x,dst=/m,ro,bind-recursive=writable \
         --mount type=volume,src=data,dst=/n,volume-subpath=y,volume-label=k=v --mount type=image,src=other,dst=/o --tmpfs /t:size=1m \
         --volumes-from other:ro --image-volume tmpfs --shm-size 1m --read-only --read-only-tmpfs --volume-driver local \
         --pid host --ipc shareable --cgroupns host --proc host --userns keep-id:uid=7 --isolation default \
         --network name=net,ip6=fd00::5,alias=x --network other --ip 10.0.0.5 --mac-address 02:00:00:00:00:01 \
         -p 127.0.0.1:8000-8001:80-81/udp -P --expose 90 --dns 1.1.1.1 --dns-search a.example --dns-option ndots:1 \
         --add-host a:10.0.0.1 --add-host b:host-gateway \
         --init --log-driver local --log-opt max-size=1m --log-opt max-file=3 --stop-signal USR1 --stop-timeout 3 --timeout 60 \
         --label a=b --label-file /dev/null --annotation c=d --restart no img cmd -x",
        "run --ip6 fd00::5 --network-alias y --network net --uts host -a stdout \
         -m 1g --memory-swap -1 --memory-reservation 512m --memory-swappiness=7 --oom-kill-disable --oom-score-adj -5 \
         -c 512 --cpu-period 1000 --cpu-quota -1 --cpu-rt-period 20 --cpu-rt-runtime 10 --cpuset-cpus 0-1 --cpuset-mems 0 \
         --pids-limit 9 --blkio-weight 500 --blkio-weight-device /dev/a:10 --device-read-bps /dev/b:1 --device-write-bps /dev/c:2 \
         --device-read-iops /dev/d:3 --device-write-iops /dev/e:4 --cgroup-parent /x --ulimit nofile=1:2 --ulimit core=-1 \
         --sysctl net.a=1 --device /dev/f:/dev/g:r --privileged --cap-add ALL --cap-drop kill --security-opt seccomp=unconfined \
         --security-opt no-new-privileges --security-opt systempaths=unconfined --security-opt apparmor=p --security-opt label=disable img",
        "run --rootfs --cpus 1.5 --device-cgroup-rule b=*:*=rwm /srv/root:O",
    ];

    /// What of a command line is not the container's: who sees it, where its image is from, what is told.
    const AROUND: [&str; 25] = [
        "name",
        "pull",
        "explain",
        "dry-run",
        "quiet",
        "help",
        "detach",
        "detach-keys",
        "sig-proxy",
        "preserve-fds",
        "preserve-fd",
        "cidfile",
        "replace",
        "mirror",
        "insecure-registry",
        "tls-verify",
        "creds",
        "authfile",
        "retry",
        "retry-delay",
        "kernel-memory",
        "storage-opt",
        "restart",
        "isolation",
        "volume-driver",
    ];

    #[test]
    fn what_is_asked_is_kept_whole() {
        for (number, line) in EVERY_FLAG.into_iter().enumerate() {
            // A rule has blanks, at which lines are split here.
            let words = format!("ddock {line}");
            let words = words.split_whitespace().map(|word| match word {
                "b=*:*=rwm" => "b *:* rwm".into(),
                word => word.into(),
            });
            let mut options = parsed_words(words.collect()).unwrap().options;
            let text = serde_json::to_string_pretty(&options).unwrap();
            let read: ContainerOptions = serde_json::from_str(&text).unwrap();
            assert_eq!(read, options, "{line}");
            // As the tests' caller has them.
            options.environment.callers.clear();
            let directory = std::env::current_dir().unwrap();
            let text = serde_json::to_string_pretty(&options).unwrap();
            let text = text.replace(directory.to_str().unwrap(), "/here");
            insta::assert_snapshot!(format!("options_{number}"), text);
        }
    }

    #[test]
    fn no_flag_is_forgotten_in_what_is_kept() {
        let mut command = Arguments::augment_args(clap::Command::new("run"));
        command.build();
        let lines = EVERY_FLAG.concat();
        for flag in command.get_opts() {
            let Some(long) = flag.get_long() else {
                continue;
            };
            let short = flag.get_short().map(|it| format!(" -{it} "));
            let is_there = lines.contains(&format!(" --{long} "))
                || lines.contains(&format!(" --{long}="))
                || short.is_some_and(|short| lines.contains(&short))
                || (matches!(long, "interactive" | "tty") && lines.contains(" -it "));
            assert!(
                is_there || AROUND.contains(&long),
                "`--{long}` is not in EVERY_FLAG"
            );
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let limits = parsed("run -m 0 --cpus 0 x").unwrap().options.limits;
        assert_eq!((limits.memory, limits.nano_cpus), (None, None));
    }

    #[test]
    fn a_limit_that_is_gone_is_refused_with_the_reason() {
        let refusal = parsed("run --kernel-memory 50m img").unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains("`--memory` counts its memory too"),
            "{refusal}"
        );
    }
}
