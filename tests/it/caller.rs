//! What the caller's process hands to the container, its streams, and what it does not: all that a daemon's have not.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::ddock::{Ddock, Output, finished_child, output};
use crate::harness::image::{ImageBuilder, busybox};
use crate::harness::registry::Registry;
use crate::harness::scratch::{chmod, command_succeeds};
use crate::harness::terminal::Terminal;
use crate::harness::tree::Tree;
use crate::harness::user::User;

/// Returns `ddock ARGS` as `"$@"` of a line of bash.
pub(crate) fn in_shell(ddock: &Ddock, line: &str, args: &[&str]) -> Command {
    let ddock = ddock.command(args);
    let mut shell = Command::new("bash");
    shell
        .args(["-c", line, "bash"])
        .arg(ddock.get_program())
        .args(ddock.get_args())
        .env_clear()
        .envs(
            ddock
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::null());
    shell
}

/// Ways of ddock to run a command, with its flags, by a user who is not root and by root without its rights.
fn callers() -> Vec<(Ddock, Vec<&'static [&'static str]>)> {
    let users: Vec<&[&str]> = vec![&["-u", "1000:50"], &["-u", "0", "--cap-drop", "ALL"]];
    vec![
        (Ddock::new(), users.clone()),
        (Ddock::for_user(User::with_ranges()), users),
        (
            Ddock::for_user(User::without_ranges()),
            vec![&["--cap-drop", "ALL"], &["--userns", "keep-id"]],
        ),
    ]
}

/// Writes to its streams by their names, as programs do that have a log file, and not a stream, in mind.
const BY_NAME: &str = "echo out >/dev/stdout && echo err >/dev/stderr";

/// Lines of bash that connect the streams, each with what they give to read.
const CONNECTIONS: [(&str, &str); 6] = [
    // A pipe that others write to, too; for who is not root, of somebody else's.
    (
        "{ echo a >/dev/stdout; \"$@\" 2>&1; echo z >/dev/stdout; } | cat",
        "a\nout\nerr\nz\n",
    ),
    (
        "file=$(mktemp); \"$@\" >$file 2>&1; sort -r $file; rm $file",
        "out\nerr\n",
    ),
    ("\"$@\" >/dev/null", ""),
    ("\"$@\" 2>&1 >&- | cat", "err\n"),
    (
        "named=$(mktemp -u); mkfifo $named; \"$@\" >$named 2>&1 & cat $named; wait $!; rm $named",
        "out\nerr\n",
    ),
    // A pipe that does not block is nothing that the command asked for.
    (
        "python3 -c 'import os, subprocess, sys; r, w = os.pipe(); os.set_blocking(w, False); \
         p = subprocess.Popen(sys.argv[1:], stdout=w, stderr=w); os.close(w); print(open(r).read(), end=\"\")' \"$@\"",
        "out\nerr\n",
    ),
];

#[test]
fn streams_can_be_opened_by_name_whoever_the_command_runs_as() {
    for (ddock, users) in callers() {
        let image = ddock.pull(busybox());
        for user in users {
            let run = |flags: &[&str], line: &str| {
                let mut args = [&["run"], user, flags].concat();
                args.extend([image.as_str(), "sh", "-c", BY_NAME]);
                output(&mut in_shell(&ddock, line, &args))
            };
            for (line, expected) in CONNECTIONS {
                let found = run(&["--rm"], line).exits(0);
                assert_eq!(found.stdout, expected, "{user:?} {line} {}", found.text());
            }
            for flags in [
                &["--init", "--rm"][..],
                &["-i", "--rm"],
                &["--log-driver", "local"],
            ] {
                let found = run(flags, CONNECTIONS[0].0).exits(0);
                assert_eq!(found.stdout, CONNECTIONS[0].1, "{user:?} {flags:?}");
            }
            let id = run(&["-d"], "\"$@\"").exits(0).stdout;
            let id = id.trim_end();
            assert_eq!(ddock.ok(&["wait", id]), "0\n", "{user:?} -d");
            assert_eq!(ddock.ok(&["logs", id]), "out\n", "{user:?} -d");
        }
    }
}

#[test]
fn a_terminal_is_the_commands_users() {
    for (ddock, users) in callers() {
        let image = ddock.pull(busybox());
        let script = format!(
            "{BY_NAME} && echo con >/dev/console && echo tty >/dev/tty && stat -c '%u %a' $(tty) | grep -q \"^$(id -u) 620\" && read x </dev/stdin && echo got $x"
        );
        for user in users {
            let args = [&["run", "-d", "-t"], user, &[&image, "sh", "-c", BY_NAME]].concat();
            let id = ddock.ok(&args);
            ddock.ok(&["wait", id.trim_end()]);
            assert_eq!(
                ddock.ok(&["logs", id.trim_end()]),
                "out\r\nerr\r\n",
                "{user:?}"
            );
            for flags in [&["-it"][..], &["-it", "--init"]] {
                let mut args = [&["run", "--rm"], user, flags].concat();
                args.extend([image.as_str(), "sh", "-c", &script]);
                let mut terminal = Terminal::start(&ddock.command(&args), 24, 80);
                terminal.expect("out\nerr\ncon\ntty\n");
                terminal.send("word\r");
                terminal.expect("got word\n");
                assert_eq!(terminal.wait(), 0, "{user:?} {flags:?}");
            }
        }
    }
}

#[test]
fn the_input_can_be_opened_by_name_and_the_callers_streams_stay_his() {
    for (ddock, users) in callers() {
        let image = ddock.pull(busybox());
        for user in users {
            let mut args = [&["run", "--rm", "-i"], user].concat();
            args.extend([image.as_str(), "sh", "-c", "cat /dev/stdin"]);
            for line in [
                "echo word | \"$@\"",
                "file=$(mktemp); echo word >$file; \"$@\" <$file; rm $file",
                "\"$@\" <<<word",
            ] {
                let found = output(&mut in_shell(&ddock, line, &args)).exits(0);
                assert_eq!(found.stdout, "word\n", "{user:?} {line}");
            }
            let line = "{ stat -L -c %u:%g:%a /dev/fd/1; \"$@\" </dev/null; stat -L -c %u:%g:%a /dev/fd/1; } | uniq | wc -l";
            let found = output(&mut in_shell(&ddock, line, &args)).exits(0);
            assert_eq!(found.stdout, "1\n", "{user:?}: the pipe is not as it was");
        }
    }
}

#[test]
fn a_socket_is_no_stream_that_can_be_opened_and_serves_all_the_same() {
    let (ddock, image) = Ddock::with_busybox();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let args = ["run", "--rm", "-u", "alice", &image, "sh", "-c", BY_NAME];
    let mut command = ddock.command(&args);
    let child = command.stdout(OwnedFd::from(theirs)).stderr(Stdio::piped());
    let child = child.stdin(Stdio::null()).spawn().unwrap();
    drop(command);
    let found: Output = finished_child(child).exits(0);
    assert_eq!(found.stderr, "err\n");
    let mut stdout = String::new();
    ours.read_to_string(&mut stdout).unwrap();
    assert_eq!(stdout, "out\n");
}

/// What the modes of a store's files are, whatever the names are that chance gave them.
fn modes_below(directory: &std::path::Path) -> String {
    let mut find = Command::new("sh");
    let script = "find \"$0\" -printf '%y %m %P\\n' | sed -E 's/[0-9a-f]{12,}/ID/g' | sort -u";
    output(find.args(["-c", script]).arg(directory))
        .exits(0)
        .stdout
}

#[test]
fn the_callers_umask_is_nobodys_business() {
    let registry = Registry::start();
    // Without `/etc`, a root that no layer lists, and mount points that are missing.
    let image = ImageBuilder::new()
        .layer(Tree::new().file("bin/busybox", 0o755, fs_err::read("/bin/busybox").unwrap()))
        .config("Volumes", json!({"/data": {}}))
        .config("WorkingDir", json!("/work/here"));
    let image = registry.push("test/implied:latest", &image.build());
    let mut expected: [Option<(String, String)>; 2] = [None, None];
    for umask in ["022", "000", "027", "777"] {
        for user in [None, Some(User::with_ranges())] {
            let is_root = user.is_none();
            let ddock = user.map_or_else(Ddock::new, Ddock::for_user);
            let own = ddock.root().parent().unwrap().to_owned();
            let under = |args: &[&str]| {
                output(&mut in_shell(
                    &ddock,
                    &format!("umask {umask}; \"$@\""),
                    args,
                ))
                .exits(0)
                .stdout
            };
            under(&["pull", "-q", &image]);
            under(&["volume", "create", "named"]);
            under(&["network", "create", "--subnet", "10.99.7.0/24", "net"]);
            let id_file = own.join("id");
            let missing = own.join("missing/on/the/host");
            let script = "cd /; busybox stat -c '%a %u %n' / /bin /etc /etc/* /dev /dev/* /work /work/here /data /new /new/deep /new/file";
            let found = under(&[
                "run",
                "--name",
                "kept",
                "-v",
                "named:/new/deep",
                "-v",
                "/etc/hosts:/new/file:ro",
                "-v",
                &format!("{}:/made", missing.display()),
                "--cidfile",
                id_file.to_str().unwrap(),
                &image,
                "/bin/busybox",
                "sh",
                "-c",
                script,
            ]);
            // A user may go wherever root may.
            let as_user = under(&[
                "run",
                "--rm",
                "-u",
                "1000",
                &image,
                "/bin/busybox",
                "cat",
                "/etc/hostname",
            ]);
            assert_eq!(as_user.len(), 13, "{umask}");
            let mode = |path: &std::path::Path| {
                fs_err::metadata(path).unwrap().permissions().mode() & 0o7777
            };
            // Files for the caller are as the caller wants them, and directories of the host as a daemon makes them.
            let callers = u32::from_str_radix(umask, 8).unwrap();
            assert_eq!(mode(&id_file), 0o666 & !callers, "umask {umask}");
            assert_eq!(mode(&missing), 0o755, "umask {umask}");
            for (line, name) in [
                ("755 0 /\n", "the root"),
                ("644 0 /etc/hosts\n", "hosts"),
                ("644 0 /etc/resolv.conf\n", "resolv.conf"),
                ("755 0 /work/here\n", "the directory"),
                ("755 0 /data\n", "a volume"),
                ("755 0 /new\n", "a mount point"),
            ] {
                assert!(found.contains(line), "umask {umask}: {name} in {found}");
            }
            let store = modes_below(ddock.root());
            let expected = &mut expected[usize::from(is_root)];
            let (inside, outside) = expected.get_or_insert_with(|| (found.clone(), store.clone()));
            assert_eq!(&found, inside, "umask {umask}");
            assert_eq!(&store, outside, "umask {umask}");
        }
    }
}

/// Returns the program that hands everything down to ddock, and tells what a container has of it.
fn heir(ddock: &Ddock) -> PathBuf {
    let program = ddock.scratch().join("inherit");
    if !program.exists() {
        let mut compiler = Command::new("cc");
        compiler.args(["-static", "-o"]).arg(&program);
        command_succeeds(compiler.arg("tests/it/caller/inherit.c"));
    }
    program
}

/// Runs that in a container, started by a process that hands all of that down.
fn inherited(ddock: &Ddock, variables: &[&str], flags: &[&str], image: &str) -> Output {
    let program = heir(ddock);
    let volume = format!("{}:/tell:ro", program.display());
    let args = [
        &[
            "run",
            "--rm",
            "-v",
            &volume,
            "--security-opt",
            "seccomp=unconfined",
        ],
        flags,
        &[image, "/tell"],
    ]
    .concat();
    let line = format!("{} exec {} \"$@\"", variables.join(" "), program.display());
    output(&mut in_shell(ddock, &line, &args))
}

#[test]
fn a_container_is_no_child_of_the_callers_process() {
    let fresh = "personality 0\nnice 0\nscheduler 0\nioprio 0\nmempolicy 0\nprocessors all\ntimerslack 50000\nthp 0\n\
        securebits 0\nprivileges 0\noom_score_adj 0\n";
    let (ddock, image) = Ddock::with_busybox();
    for flags in [&[][..], &["--init"], &["-d"]] {
        let mut found = inherited(&ddock, &[], flags, &image).exits(0);
        if flags == ["-d"] {
            continue;
        }
        assert_eq!(std::mem::take(&mut found.stdout), fresh, "{flags:?}");
        assert_eq!(found.stderr, "", "{flags:?}");
    }
    // What cannot be taken back is said.
    let found = inherited(&ddock, &["NO_NEW_PRIVILEGES=1"], &[], &image).exits(0);
    assert_eq!(found.stdout, fresh.replace("privileges 0", "privileges 1"));
    found.says("no_new_privs");
    let bounded = |flags: &[&str]| {
        let args = [&["run", "--rm", "--network=none"], flags, &[&image, "true"]].concat();
        let line = "setpriv --bounding-set=-net_raw,-audit_write \"$@\"";
        output(&mut in_shell(&ddock, line, &args)).exits(0)
    };
    bounded(&[]).says("does without CAP_AUDIT_WRITE, CAP_NET_RAW");
    bounded(&["--privileged"]).says("does without CAP_AUDIT_WRITE, CAP_NET_RAW");
    for dropped in [
        &["--cap-drop=ALL"][..],
        &["--cap-drop=net_raw", "--cap-drop=AUDIT_WRITE"],
    ] {
        assert_eq!(bounded(dropped).stderr, "", "{dropped:?}");
    }
    // An ordinary user has no right to more than the caller left.
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    let found = inherited(&ddock, &[], &[], &image).exits(0);
    let left = fresh
        .replace("nice 0", "nice 7")
        .replace("oom_score_adj 0", "oom_score_adj 500");
    // Who cannot lower it may all the same go back to what it was.
    let found_score = found.stdout.replace("oom_score_adj 0", "oom_score_adj 500");
    assert_eq!(found_score, left);
    found.says("nice value 7");
}

/// Returns ddock for an ordinary user, an image, and a directory that this user may not enter.
fn with_closed_directory() -> (Ddock, String, String) {
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    let closed = ddock.scratch().dir("closed");
    chmod(&closed, 0o700);
    (ddock, image, closed.display().to_string())
}

#[test]
fn the_callers_directory_and_home_keep_nobody_from_running() {
    let (ddock, image, closed) = with_closed_directory();
    let gone = ddock.scratch().dir("gone").display().to_string();
    let file = ddock.scratch().file("file", "x").display().to_string();
    let run = ["run", "--rm", &image, "echo", "ok"];
    let terminal = ["run", "--rm", "-t", "-a", "stdout", &image, "echo", "ok"];
    for surroundings in [
        format!("cd {closed}"),
        format!("cd {gone}; rmdir {gone}"),
        "export HOME=/dev/null".to_owned(),
        format!("export HOME={closed}"),
        format!("export DOCKER_CONFIG={file}"),
        format!("export DOCKER_CONFIG={closed} XDG_RUNTIME_DIR={file} XDG_CONFIG_HOME={file}"),
    ] {
        let line = format!("{surroundings}; \"$@\"");
        for (args, expected) in [
            (&run[..], "ok\n"),
            (&terminal, "ok\r\n"),
            (&["images", "-q"], ""),
            (&["ps", "-q"], ""),
            (&["volume", "ls", "-q"], ""),
        ] {
            let found = output(&mut in_shell(&ddock, &line, args)).exits(0);
            let is_fine = found.stdout.ends_with(expected);
            assert!(is_fine, "{surroundings}, {args:?}: {}", found.text());
        }
    }
}

#[test]
fn what_is_relative_to_a_closed_directory_is_not_somewhere_else() {
    let (ddock, image, closed) = with_closed_directory();
    for flags in [
        &["-v", "./x:/x"][..],
        &["--env-file", "x"],
        &["--security-opt", "seccomp=x"],
    ] {
        let args = [&["run", "--rm"], flags, &[&image, "true"]].concat();
        let line = format!("cd {closed}; \"$@\"");
        let found = output(&mut in_shell(&ddock, &line, &args)).exits(125);
        found.says("Permission denied");
    }
}

#[test]
fn dockers_configuration_may_be_anything_and_a_store_nowhere() {
    let (ddock, image, _) = with_closed_directory();
    let own = ddock.root().parent().unwrap();
    fs_err::create_dir(own.join(".docker")).unwrap();
    fs_err::write(own.join(".docker/config.json"), "{").unwrap();
    let line = format!(
        "HOME={} script -qec \"$(printf '%q ' \"$@\")\" /dev/null",
        own.display()
    );
    let args = ["run", "--rm", "-it", &image, "echo", "ok"];
    let found = output(&mut in_shell(&ddock, &line, &args)).exits(0);
    let is_told = found.stdout.contains("config.json") && found.stdout.contains("ok");
    assert!(is_told, "{}", found.text());
    let nowhere = |args: &[&str]| {
        let line = "unset DDOCK_ROOT; HOME=/dev/null \"$@\"";
        output(&mut in_shell(&ddock, line, args))
    };
    for args in [
        &["ps", "-aq"][..],
        &["images", "-q"],
        &["volume", "ls", "-q"],
    ] {
        assert_eq!(nowhere(args).exits(0).stdout, "", "{args:?}");
    }
    let refused = nowhere(&["run", "--rm", &image, "true"]).exits(125);
    refused.says("/dev/null/.local/share/ddock");
}
