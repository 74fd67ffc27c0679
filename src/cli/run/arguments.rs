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

pub(crate) use lifetime::invalid_signal;
pub(crate) use networks::{address4, address6, alias};

use crate::cli::failure::Refusal;
use crate::cli::names;
use crate::cli::pull_flags::PullFlags;
use crate::cli::run::origin::Wanted;
use crate::cli::run::{Explain, PullPolicy, Run, Wish};
use crate::platform::Platform;
use crate::spec::Request;
use clap::{ArgAction, Args};
use command::CommandFlags;
use devices::DeviceFlags;
use files::FileFlags;
use lifetime::{LifetimeFlags, StreamName};
use limits::LimitFlags;
use namespaces::NamespaceFlags;
use network::NetworkFlags;
use networks::MembershipFlags;
use security::SecurityFlags;
use std::collections::BTreeMap;
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
}

impl TryFrom<Arguments> for Run {
    type Error = Refusal;

    fn try_from(arguments: Arguments) -> Result<Self, Refusal> {
        if let Some(name) = &arguments.name {
            names::check(name)?;
        }
        let session = session(&arguments);
        let lifetime = arguments.lifetime.check(arguments.rm)?;
        let mut words = arguments.image_and_command.into_iter();
        let first = words.next().unwrap_or_default();
        let origin = origin(first, &arguments.files, arguments.platform.as_ref())?;
        let command = arguments.command;
        let default_environment = command.default_environment();
        let namespaces = arguments.namespaces.read(arguments.membership.read()?)?;
        arguments.network.check(&namespaces.network)?;
        Ok(Self {
            origin,
            name: arguments.name,
            session,
            lifetime,
            remove: arguments.rm,
            pull: arguments.pull,
            platform: arguments.platform,
            pull_flags: arguments.pull_flags,
            quiet: arguments.quiet,
            explain: arguments.explain,
            volumes_from: arguments.files.volumes_from.clone(),
            user_namespace: arguments.namespaces.user_namespace()?,
            publish: arguments.network.publish()?,
            request: Request {
                id: String::new(),
                directory: PathBuf::new(),
                root: None,
                volumes: PathBuf::new(),
                command: words.collect(),
                entrypoint: command.entrypoint,
                environment: command.env,
                default_environment,
                environment_files: command.env_file,
                working_directory: command.workdir,
                user: command.user,
                groups: command.group_add,
                umask: command.umask,
                time_zone: command.tz,
                hostname: arguments.namespaces.hostname.clone(),
                domain_name: arguments.namespaces.domainname.clone(),
                terminal: arguments.tty,
                dry_run: arguments.dry_run,
                annotations: BTreeMap::new(),
                files: arguments.files.try_into()?,
                namespaces,
                names: arguments.network.try_into()?,
                limits: arguments.limits.into(),
                devices: arguments.devices.into(),
                security: arguments.security.into(),
            },
        })
    }
}

/// Returns what the first word names.
fn origin(
    first: String,
    files: &FileFlags,
    platform: Option<&Platform>,
) -> Result<Wanted, Refusal> {
    if !files.rootfs {
        return Ok(Wanted::Image(first));
    }
    refuse_platform(platform)?;
    Wanted::directory(&first)
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

/// Returns who is attached to what.
fn session(arguments: &Arguments) -> Wish {
    let flags = &arguments.lifetime;
    let has = |stream| flags.attach.is_empty() || flags.attach.contains(&stream);
    let (stdout, stderr) = (has(StreamName::Stdout), has(StreamName::Stderr));
    // Who gives a command its input and sees nothing of it waits for its code all the same, as Docker's client does.
    let detached = flags.detach;
    Wish {
        detached,
        interactive: arguments.interactive,
        stdin: arguments.interactive && !flags.detach && has(StreamName::Stdin),
        stdout: stdout && !detached,
        stderr: stderr && !detached,
        sig_proxy: flags.sig_proxy,
        detach_keys: flags.detach_keys.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command_line::{Parsed, parse};
    use clap::FromArgMatches as _;

    /// What `ddock <line>` asks for, split at blanks.
    fn parsed(line: &str) -> Result<Run, Refusal> {
        let words = format!("ddock {line}");
        let words = words.split_whitespace().map(Into::into).collect();
        match parse(words)? {
            Parsed::Command(mut call) => {
                assert_eq!(call.command.name(), "run");
                let arguments = Arguments::from_arg_matches_mut(&mut call.matches);
                arguments.unwrap().try_into()
            }
            other @ Parsed::Text(..) => panic!("{line}: {other:?}"),
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
            ("run -h -x -w --rm -e -X=1 alpine", "alpine", &[]),
            ("run --hostname -- --entrypoint -x alpine", "alpine", &[]),
        ] {
            let run = parsed(line).unwrap();
            assert_eq!(
                (run.origin.to_string().as_str(), run.request.command),
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
                (run.session.interactive, run.request.terminal, run.remove),
                expected,
                "{line}"
            );
            assert_eq!(run.origin.to_string(), "x", "{line}");
        }
    }

    #[test]
    fn every_flag_arrives() {
        let run = parsed(
            "run -q --name box -h inside -e A=1 -eB --env=C=-3 --env-file f -w /w -u 1:2 -v /a:/b:ro -v=/c:/d \
             --tmpfs /t:size=1m --mount dst=/m --shm-size 1m --entrypoint /e --read-only --net host -m 64m --cpus 1.5 --pids-limit -1 \
             --privileged --cap-add ALL --cap-drop kill --security-opt seccomp=x --pull always --platform linux/arm64 \
             --pid host --ipc shareable --cgroupns host --domainname dom --group-add g --umask 077 --tz local \
             --unsetenv V --env-merge M=${M} img cmd",
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
        Request { id: "", directory: "", root: None, volumes: "", command: ["cmd"], entrypoint: Some("/e"), environment: ["A=1", "B", "C=-3"], environment_files: ["f"], default_environment: DefaultEnvironment { with_callers: false, unset: ["V"], unset_all: false, merged: ["M=${M}"] }, working_directory: Some("/w"), user: Some("1:2"), groups: ["g"], umask: Some(63), time_zone: Some("local"), hostname: Some("inside"), domain_name: Some("dom"), terminal: false, dry_run: false, annotations: {}, files: Files { read_only: true, read_only_tmpfs: false, volumes: ["/a:/b:ro", "/c:/d"], mounts: ["dst=/m"], tmpfs: ["/t:size=1m"], shm_size: Some(1048576), image_volumes: Anonymous, inherited: [], images: {} }, namespaces: Namespaces { network: Host, mac: None, pid: Host, ipc: Shareable, uts_of_host: false, cgroup_of_host: true, proc_of_host: false }, names: NetworkNames { servers: [], search: [], options: [], hosts: [], gateways: [] }, limits: Limits { memory: Some(67108864), memory_swap: None, memory_reservation: None, memory_swappiness: None, oom_kill_disable: false, oom_score: None, nano_cpus: Some(1500000000), cpu_shares: None, cpu_period: None, cpu_quota: None, cpu_rt_period: None, cpu_rt_runtime: None, cpuset_cpus: "", cpuset_mems: "", pids: Some(-1), io: Io { weight: None, weight_devices: [], read_bytes: [], write_bytes: [], read_operations: [], write_operations: [] }, cgroup_parent: "", ulimits: [], sysctls: [] }, devices: Devices { nodes: [], rules: [] }, security: Security { privileged: true, capabilities_added: ["ALL"], capabilities_dropped: ["kill"], options: ["seccomp=x"] } }
        "#);
    }

    #[test]
    fn zero_is_no_limit() {
        let request = parsed("run -m 0 --cpus 0 x").unwrap().request;
        let limits = request.limits;
        assert_eq!((limits.memory, limits.nano_cpus), (None, None));
    }

    #[test]
    fn every_limit_arrives() {
        let run = parsed(
            "run -m 1g --memory-swap -1 --memory-reservation 512m --memory-swappiness=-1 --oom-kill-disable --oom-score-adj -5 \
             -c 512 --cpu-period 1000 --cpu-quota -1 --cpu-rt-period 20 --cpu-rt-runtime 10 --cpuset-cpus 0-1 --cpuset-mems 0 \
             --blkio-weight 500 --blkio-weight-device /dev/a:10 --device-read-bps /dev/b:1 --device-write-bps /dev/c:2 \
             --device-read-iops /dev/d:3 --device-write-iops /dev/e:4 --cgroup-parent /x --ulimit nofile=1:2 --ulimit core=0 \
             --sysctl net.a=1 --device /dev/f --device-cgroup-rule c=1 img",
        )
        .unwrap();
        insta::assert_compact_debug_snapshot!((run.request.limits, run.request.devices), @r#"
        (Limits { memory: Some(1073741824), memory_swap: Some(-1), memory_reservation: Some(536870912), memory_swappiness: Some(-1), oom_kill_disable: true, oom_score: Some(-5), nano_cpus: None, cpu_shares: Some(512), cpu_period: Some(1000), cpu_quota: Some(-1), cpu_rt_period: Some(20), cpu_rt_runtime: Some(10), cpuset_cpus: "0-1", cpuset_mems: "0", pids: None, io: Io { weight: Some(500), weight_devices: ["/dev/a:10"], read_bytes: ["/dev/b:1"], write_bytes: ["/dev/c:2"], read_operations: ["/dev/d:3"], write_operations: ["/dev/e:4"] }, cgroup_parent: "/x", ulimits: ["nofile=1:2", "core=0"], sysctls: ["net.a=1"] }, Devices { nodes: ["/dev/f"], rules: ["c=1"] })
        "#);
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
