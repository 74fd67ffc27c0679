//! `ddock run`: what runs, as whom, where, with which environment, and what comes out of it.

use serde_json::json;

use crate::harness::ddock::{Ddock, binary};
use crate::harness::host::{assert_nothing_left, unique_seconds};
use crate::harness::image::{ImageBuilder, busybox, busybox_tree};
use crate::harness::registry::Registry;

#[test]
fn stdout_and_stderr_are_the_commands_own() {
    let (ddock, image) = Ddock::with_busybox();
    let output = ddock.run(&["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        output.text(),
        "exit code 0\n--- stdout\nout\n--- stderr\nerr\n"
    );
}

#[test]
fn an_image_that_is_absent_is_pulled_first_and_stdout_does_not_show_it() {
    let registry = Registry::start();
    let reference = registry.push("test/image:latest", &busybox().build());
    let ddock = Ddock::new();
    let output = ddock.run(&["run", "--rm", &reference, "echo", "hello"]);
    let output = output.exits(0).says(&format!(
        "Unable to find image '{reference}' locally\nlatest: Pulling from test/image\n"
    ));
    assert_eq!(output.stdout, "hello\n");
}

#[test]
fn pull_never_and_pull_always_do_what_they_say() {
    let registry = Registry::start();
    let reference = registry.push("test/image:latest", &busybox().build());
    let ddock = Ddock::new();
    let never = ["run", "--rm", "--pull", "never", &reference, "true"];
    ddock
        .run(&never)
        .exits(125)
        .says(&format!("No such image: {reference}"));
    let always = ["run", "--rm", "--pull", "always", &reference, "true"];
    ddock.run(&always).exits(0);
    let requests = registry.requests_during(|| {
        ddock.run(&always).exits(0);
    });
    assert_eq!(requests.len(), 1, "{requests:?}");
    let requests = registry.requests_during(|| {
        ddock.run(&never).exits(0);
    });
    assert_eq!(requests, [""; 0]);
}

#[test]
fn entrypoint_and_command_merge_as_docker_merges_them() {
    let echo = json!(["echo", "entry"]);
    let cmd = json!(["default"]);
    let registry = Registry::start();
    let ddock = Ddock::new();
    let both = busybox().config("Entrypoint", echo).config("Cmd", cmd);
    let both = registry.push("test/both:latest", &both.build());
    let none = busybox().config("Cmd", json!(null));
    let none = registry.push("test/none:latest", &none.build());

    let run = |flags: &[&str], image: &str, command: &[&str]| {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.push(image);
        args.extend(command);
        ddock.run(&args)
    };
    for (flags, command, stdout) in [
        (&[][..], &[][..], "entry default\n"),
        (&[], &["given"], "entry given\n"),
        (&["--entrypoint", "printf"], &["%s|", "a b", "c"], "a b|c|"),
        (&["--entrypoint", ""], &["echo", "bare"], "bare\n"),
        (&["--entrypoint", "pwd"], &[], "/\n"),
    ] {
        let output = run(flags, &both, command).exits(0);
        assert_eq!(output.stdout, stdout, "{flags:?} {command:?}");
    }
    run(&["--entrypoint", ""], &both, &[])
        .exits(125)
        .says("no command specified");
    run(&[], &none, &[]).exits(125).says("no command specified");
}

#[test]
fn flags_end_at_the_image() {
    let (ddock, image) = Ddock::with_busybox();
    assert_eq!(
        ddock.ok(&["run", "--rm", &image, "echo", "--rm", "-e", "-h"]),
        "--rm -e -h\n"
    );
}

#[test]
fn the_environment_is_exactly_what_was_asked_for() {
    let image = busybox().config(
        "Env",
        json!(["PATH=/bin", "IMAGE=1", "BOTH=image", "GONE=image"]),
    );
    let (ddock, image) = Ddock::with(image);
    let file = ddock.scratch().file(
        "env",
        "\u{feff}# a comment\n\nFILE=\"quoted\"  \nBOTH=file\nHOSTS\nABSENT\n",
    );
    let mut command = ddock.command(&[
        "run",
        "--rm",
        "-h",
        "box",
        "-e",
        "LAST=1",
        "-e",
        "BOTH=flag",
        "-e",
        "LAST=2",
        "-e",
        "GONE",
        "-e",
        "COPIED",
        "-e",
        "LINES=a\nb",
        "--env-file",
        file.to_str().unwrap(),
        &image,
        "cat",
        "/proc/self/environ",
    ]);
    command.env("COPIED", "from the host").env("HOSTS", "too");
    let output = crate::harness::ddock::output(&mut command).exits(0);
    let variables: Vec<&str> = output.stdout.trim_end_matches('\0').split('\0').collect();
    assert_eq!(
        variables,
        [
            "PATH=/bin",
            "HOSTNAME=box",
            "IMAGE=1",
            "BOTH=flag",
            "FILE=\"quoted\"  ",
            "HOSTS=too",
            "LAST=2",
            "COPIED=from the host",
            "LINES=a\nb",
            "HOME=/root",
        ]
    );
}

#[test]
fn the_user_is_looked_up_in_the_image() {
    let (ddock, image) = Ddock::with_busybox();
    for (user, id, home) in [
        ("root", "uid=0(root) gid=0(root) groups=0(root)", "/root"),
        (
            "alice",
            "uid=1000(alice) gid=1000(alice) groups=10(wheel),50(staff),1000(alice)",
            "/home/alice",
        ),
        (
            "1000",
            "uid=1000(alice) gid=1000(alice) groups=10(wheel),50(staff),1000(alice)",
            "/home/alice",
        ),
        (
            "alice:staff",
            "uid=1000(alice) gid=50(staff) groups=50(staff)",
            "/home/alice",
        ),
        ("4242", "uid=4242 gid=0(root) groups=0(root)", "/"),
        ("4242:4343", "uid=4242 gid=4343 groups=4343", "/"),
        (":50", "uid=0(root) gid=50(staff) groups=50(staff)", "/root"),
    ] {
        let script = "id; echo $HOME";
        let stdout = ddock.sh(&["-u", user], &image, script);
        let (told, told_home) = stdout.trim_end().split_once('\n').unwrap();
        // The order of groups is the kernel's business.
        assert_eq!(sorted_groups(told), sorted_groups(id), "-u {user}");
        assert_eq!(told_home, home, "-u {user}");
    }
    for (user, why) in [
        (
            "mallory",
            "unable to find user mallory: no matching entries in passwd file",
        ),
        (
            "alice:nogroup",
            "unable to find group nogroup: no matching entries in group file",
        ),
        ("2147483648", ""),
        ("-1", ""),
    ] {
        let output = ddock.run(&["run", "--rm", &format!("--user={user}"), &image, "true"]);
        output.exits(125).says(why);
    }
}

fn sorted_groups(id: &str) -> (String, Vec<String>) {
    let (who, groups) = id.split_once(" groups=").unwrap();
    let mut groups: Vec<String> = groups.split(',').map(str::to_owned).collect();
    groups.sort();
    (who.to_owned(), groups)
}

#[test]
fn passwd_is_never_read_outside_the_image() {
    let tree = busybox_tree()
        .symlink("etc/passwd", "/../../../proc/1/root/secret")
        .dir("proc/", 0o755);
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
    ddock
        .run(&["run", "--rm", "-u", "root2", &image, "true"])
        .exits(125)
        .says("unable to find user root2");
    assert_eq!(
        ddock.sh(&["-u", "1000"], &image, "id -u; echo $HOME"),
        "1000\n/\n"
    );
}

#[test]
fn the_work_directory_is_made_when_it_is_missing() {
    let (ddock, image) = Ddock::with(busybox().config("WorkingDir", json!("/home/alice")));
    assert_eq!(ddock.sh(&[], &image, "pwd"), "/home/alice\n");
    assert_eq!(
        ddock.sh(
            &["-w", "/new/deep"],
            &image,
            "pwd; stat -c '%a %u' /new /new/deep ."
        ),
        "/new/deep\n755 0\n755 0\n755 0\n"
    );
    assert_eq!(
        ddock.sh(&["--read-only", "-w", "/new"], &image, "pwd"),
        "/new\n"
    );
    ddock
        .run(&["run", "--rm", "-w", "relative", &image, "true"])
        .exits(125)
        .says("relative");
    ddock
        .run(&["run", "--rm", "-w", "/etc/passwd", &image, "true"])
        .exits(125)
        .says("/etc/passwd");
}

#[test]
fn the_hostname_is_the_containers_id() {
    let (ddock, image) = Ddock::with_busybox();
    let stdout = ddock.ok(&[
        "run",
        &image,
        "sh",
        "-c",
        "hostname; echo $HOSTNAME; cat /etc/hostname; uname -n",
    ]);
    let id = ddock.containers().remove(0);
    assert_eq!(id.len(), 64, "{id}");
    assert!(
        id.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    );
    assert_eq!(stdout, format!("{0}\n{0}\n{0}\n{0}\n", &id[..12]));
}

#[test]
fn hostname_hosts_and_resolv_conf_are_the_containers() {
    let (ddock, image) = Ddock::with_busybox();
    let stdout = ddock.sh(
        &["-h", "box"],
        &image,
        "hostname; cat /etc/hostname; grep -c '^127.0.0.1.localhost$' /etc/hosts; test -f /etc/resolv.conf && echo ok; \
         echo mine >> /etc/hosts && tail -n 1 /etc/hosts",
    );
    assert_eq!(stdout, "box\nbox\n1\nok\nmine\n");
}

#[test]
fn without_i_stdin_is_empty_and_with_i_it_is_the_callers() {
    let (ddock, image) = Ddock::with_busybox();
    let output = ddock.feed(&["run", "--rm", &image, "cat"], b"not for you");
    assert_eq!(output.exits(0).stdout, "");
    let output = ddock.feed(&["run", "--rm", "-i", &image, "cat"], b"for you");
    assert_eq!(output.exits(0).stdout, "for you");
}

#[test]
fn every_byte_passes_in_both_directions() {
    let (ddock, image) = Ddock::with_busybox();
    let input: Vec<u8> = (0..64_u32 << 20).map(|i| (i % 251) as u8).collect();
    let expected = crate::harness::image::digest(&input);
    let output = ddock.feed(&["run", "--rm", "-i", &image, "sha256sum"], &input);
    let told = format!("sha256:{}", &output.exits(0).stdout[..64]);
    assert_eq!(told, expected);

    let output = ddock.run(&[
        "run",
        "--rm",
        &image,
        "sh",
        "-c",
        "yes 0123456 | head -c 67108864",
    ]);
    let output = output.exits(0);
    assert_eq!(output.stdout.len(), 64 << 20);
    assert!(output.stdout.ends_with("0123456\n"));
}

#[test]
fn a_regular_file_as_stdin_or_stdout_is_not_handed_in() {
    let (ddock, image) = Ddock::with_busybox();
    let precious = ddock.scratch().file("precious", "precious\n");
    let log = fs_err::File::create(ddock.scratch().join("log")).unwrap();
    let script = "cat; echo overwritten > /proc/self/fd/0; echo written";
    let mut command = ddock.command(&["run", "--rm", "-i", &image, "sh", "-c", script]);
    command
        .stdin(fs_err::File::open(&precious).unwrap().into_file())
        .stdout(log.into_file());
    command.status().unwrap();
    assert_eq!(fs_err::read_to_string(precious).unwrap(), "precious\n");
    let log = fs_err::read_to_string(ddock.scratch().join("log")).unwrap();
    assert!(log.starts_with("precious\n"), "{log}");
}

#[test]
fn a_reader_that_leaves_early_is_no_failure_of_ours() {
    let (ddock, image) = Ddock::with_busybox();
    let script = format!("{} run --rm {image} yes | head -n 1", binary().display());
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &script]).env("DDOCK_ROOT", ddock.root());
    let output = crate::harness::ddock::output(&mut shell);
    // `yes` itself may complain: PID 1 does not die of SIGPIPE.
    assert_eq!(output.stdout, "y\n");
    assert!(!output.stderr.contains("ddock"), "{}", output.text());
}

#[test]
fn a_container_stays_until_it_is_removed() {
    let (ddock, image) = Ddock::with_busybox();
    ddock
        .run(&["run", "--name", "kept", &image, "sh", "-c", "exit 4"])
        .exits(4);
    let id = ddock.containers().remove(0);
    let table = ddock.ok(&["ps", "-a"]);
    let mut lines = table.lines();
    let header: Vec<&str> = lines
        .next()
        .unwrap()
        .split("  ")
        .filter(|w| !w.is_empty())
        .collect();
    assert_eq!(
        header.iter().map(|w| w.trim()).collect::<Vec<_>>(),
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "PORTS",
            "NAMES"
        ]
    );
    let row = lines.next().unwrap();
    assert!(row.starts_with(&id[..12]), "{row}");
    assert!(row.contains("Exited (4)") && row.ends_with("kept"), "{row}");
    assert!(row.contains("\"sh -c 'exit 4'\""), "{row}");

    let again = ddock.run(&["run", "--name", "kept", &image, "true"]);
    again.exits(125).says(&format!(
        "The container name \"/kept\" is already in use by container \"{id}\""
    ));
    assert_eq!(ddock.ok(&["rm", "kept"]), "kept\n");
    assert_eq!(ddock.containers(), [""; 0]);
    assert_nothing_left(&ddock, &id);
}

#[test]
fn rm_removes_all_and_a_running_one_only_by_force() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["run", &image, "true"]);
    ddock.ok(&["run", &image, "true"]);
    let mut running = ddock
        .command(&["run", "--name", "running", &image, "sleep", &seconds])
        .spawn()
        .unwrap();
    crate::harness::host::wait_for_process("sleep", &seconds);
    let refused = ddock.run(&["rm", "running"]);
    refused.exits(1).says("container is running");
    ddock.run(&["rm", "-f", "running"]).exits(0);
    running.wait().unwrap();
    assert_eq!(ddock.containers().len(), 2);
    ddock.run(&["rm", "-a"]).exits(0);
    assert_eq!(ddock.containers(), [""; 0]);
    ddock.run(&["rm", "nothing"]).exits(1).says("nothing");
    ddock.run(&["rm", "-f", "nothing"]).exits(0);
}
