//! Commands and flags that Docker or Podman has and ddock has not: recognised by name, looked up only after parsing failed.

use crate::cli::failure::Refusal;

/// What does not come, and what does the job: command, why, what to use.
const COMMANDS_ELSEWHERE: &[(&[&str], &str, &str)] = &[
    (
        &["build", "buildx", "builder", "bake"],
        "ddock runs images and does not build them",
        "build with buildah or buildkit, and push the image where ddock can pull it",
    ),
    (
        &["compose"],
        "ddock runs one container at a time",
        "a shell script of `ddock run` lines does for a few containers",
    ),
    (
        &["swarm", "service", "stack", "node", "secret", "config"],
        "ddock runs containers on this machine only",
        "use an orchestrator such as Kubernetes or Nomad",
    ),
    (
        &["pod", "kube", "play", "generate", "quadlet", "farm"],
        "ddock has no pods",
        "use podman or Kubernetes",
    ),
    (
        &["machine", "context", "desktop"],
        "ddock has no daemon and no virtual machine: it runs where it is called",
        "call it on the Linux machine where the containers are to run",
    ),
    (
        &["plugin", "extension", "trust", "auto-update"],
        "ddock has no plugins, no signatures and no timers of its own",
        "pull by digest (`NAME@sha256:…`) to be sure of an image",
    ),
];

/// What is to come.
#[rustfmt::skip]
const COMMANDS_TO_COME: &[&str] = &[
    "checkpoint", "commit", "completion", "cp", "diff", "events",
    "export", "healthcheck", "import", "init",
    "mount", "pause", "push", "rename", "search",
    "stats", "system", "top", "umount", "unmount", "unpause", "unshare",
        "update",
];

/// What is to come under a word that groups commands.
#[rustfmt::skip]
const GROUPED_TO_COME: &[(&str, &[&str])] = &[
    ("container", &[
        "checkpoint", "cleanup", "clone", "commit", "cp", "diff",
        "exists", "export", "init", "mount", "pause", "prune", "rename",
        "restore", "runlabel", "stats", "top", "unmount", "unpause", "update",
    ]),
    ("image", &[
        "diff", "import", "mount", "push", "scp",
        "search", "sign", "tree", "trust", "unmount",
    ]),
    ("network", &["exists", "reload", "update"]),
    ("manifest", &["add", "annotate", "create", "exists", "push", "remove", "rm"]),
    ("volume", &["exists", "export", "import", "mount", "reload", "unmount", "update"]),
    ("system", &[
        "connection", "dial-stdio", "events", "migrate", "prune", "renumber", "service",
    ]),
];

/// Flags of `run` that do not come: why, and what to use.
const FLAGS_ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "--init-path",
        "the init of `--init` is ddock itself",
        "an image's own init needs no flag: name it first in the command",
    ),
    (
        "--runtime",
        "ddock is its own runtime",
        "`--dry-run` prints the `config.json` that another one takes",
    ),
    (
        "--secret",
        "ddock has no store of secrets",
        "`-v FILE:/run/secrets/NAME:ro` shows the container a file of yours",
    ),
];

/// Flags that are to come: command, why they are missing if there is more to say, flags.
#[rustfmt::skip]
const FLAGS: &[(&str, &str, &[&str])] = &[
    ("run", "containers of one network (`--network NAME`) find each other by name", &["--link"]),
    ("run", "", &["--link-local-ip", "--no-hosts"]),
    ("run", "it is spelled `--platform OS/ARCH/VARIANT`", &["--arch", "--os", "--variant"]),
    ("run", "", &[
        "--cert-dir", "--cgroup-conf", "--cgroups", "--chrootdirs", "--conmon-pidfile",
        "--cpu-count", "--cpu-percent", "--decryption-key",
        "--gidmap", "--gpus", "--group-entry",
        "--health-cmd", "--health-interval", "--health-log-destination",
        "--health-max-log-count", "--health-max-log-size", "--health-on-failure",
        "--health-retries", "--health-start-interval", "--health-start-period",
        "--health-startup-cmd", "--health-startup-interval", "--health-startup-retries",
        "--health-startup-success", "--health-startup-timeout", "--health-timeout",
        "--hosts-file", "--hostuser", "--http-proxy", "--init-ctr",
        "--no-hostname", "--passwd", "--passwd-entry", "--personality",
        "--pidfile", "--pod", "--pod-id-file", "--rdt-class",
        "--requires", "--rmi", "--sdnotify",
        "--seccomp-policy", "--shm-size-systemd", "--subgidname", "--subuidname",
        "--systemd", "--uidmap", "--use-api-socket",
    ]),
    ("pull", "it is spelled `--platform OS/ARCH/VARIANT`", &["--arch", "--os", "--variant"]),
    ("login", "", &["--tls-verify", "--cert-dir", "--get-login", "-v", "--verbose", "--compat-auth-file", "--secret"]),
    ("logout", "", &["-a", "--all", "--compat-auth-file"]),
    ("pull", "", &[
        "--all-platforms", "--cert-dir",
        "--decryption-key", "--policy", "--unpack", "--verify",
    ]),
    ("images", "", &["--tree", "--history", "-n", "--noheading", "--sort"]),
    ("rmi", "", &["--platform", "-a", "--all", "-i", "--ignore"]),
    ("inspect", "", &["-l", "--latest", "--platform", "--mode"]),
    ("ps", "", &[
        "--sort",
        "--pod", "-p", "--ns", "--watch", "-w", "--external", "--sync", "--noheading",
    ]),
    ("rm", "", &[
        "-l", "--link", "--latest", "-i", "--ignore", "-t", "--time", "--depend", "--cidfile",
        "--filter",
    ]),
    ("stop", "", &["-a", "--all", "--cidfile", "-f", "--filter", "-i", "--ignore", "-l", "--latest"]),
    ("kill", "", &["-a", "--all", "--cidfile", "-l", "--latest"]),
    ("wait", "", &["--condition", "-i", "--ignore", "--interval", "-l", "--latest"]),
    ("attach", "", &["-l", "--latest"]),
    ("logs", "", &["--details", "-l", "--latest", "--color", "--names"]),
    ("system check", "", &["-f", "--force", "-m", "--max", "-q", "--quick"]),
    ("network connect", "", &[
        "--driver-opt", "--gw-priority", "--link", "--link-local-ip", "--mac-address",
    ]),
    ("network create", "", &[
        "--aux-address", "--config-from", "--config-only", "--disable-dns", "--dns", "--ignore", "--ingress",
        "--interface-name", "--ipam-driver", "--ipam-opt", "--ipv4", "--route", "--scope",
    ]),
    ("network ls", "", &["-n", "--noheading"]),
    ("network inspect", "", &["-v", "--verbose"]),
    ("network rm", "", &["-t", "--time"]),
    ("volume create", "", &["-o", "--opt", "--ignore", "--uid", "--gid"]),
    ("volume ls", "", &["--cluster", "-n", "--noheading"]),
    ("volume inspect", "", &["-a", "--all"]),
    ("volume rm", "", &["-a", "--all", "-t", "--time"]),
    ("volume prune", "", &["--filter"]),
];

/// Returns the refusal of a command if it is a known one: `words` are the first one or two of the command line.
pub(crate) fn command(words: &[&str]) -> Option<Refusal> {
    // `image build` is `build`.
    let (group, last) = match words {
        [group, last] => (Some(group), last),
        [last] => (None, last),
        _ => return None,
    };
    let name = words.join(" ");
    let elsewhere = COMMANDS_ELSEWHERE
        .iter()
        .find(|(commands, _, _)| commands.contains(last));
    let grouped = GROUPED_TO_COME
        .iter()
        .find(|(it, _)| group == Some(it))
        .map(|(_, commands)| *commands);
    let is_to_come = match group {
        Some(_) => grouped.is_some_and(|commands| commands.contains(last)),
        None => COMMANDS_TO_COME.contains(last),
    };
    if is_to_come {
        return Some(Refusal::new(format!("`{name}` is not there yet")));
    }
    let (_, why, instead) = elsewhere?;
    Some(Refusal::new(format!("`{name}` is not there: {why}")).hint(*instead))
}

/// Returns the refusal of a `flag` of `command` if it is a known one.
pub(crate) fn flag(command: &str, flag: &str) -> Option<Refusal> {
    let elsewhere = FLAGS_ELSEWHERE.iter().find(|(name, _, _)| *name == flag);
    if let Some((_, why, instead)) = elsewhere.filter(|_| command == "run") {
        return Some(Refusal::new(format!("`{flag}` is not there: {why}")).hint(*instead));
    }
    let (_, why, _) = FLAGS
        .iter()
        .find(|(of, _, flags)| *of == command && flags.contains(&flag))?;
    let message = format!("`{flag}` is not there yet");
    Some(Refusal::new(if why.is_empty() {
        message
    } else {
        format!("{message}: {why}")
    }))
}
