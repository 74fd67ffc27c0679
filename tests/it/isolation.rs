//! What a container may see and do: namespaces, mounts, devices, capabilities.

use crate::harness::ddock::Ddock;
use crate::harness::image::{ImageBuilder, busybox_tree};

/// Docker's fourteen default capabilities.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";
const NO_CAPABILITIES: &str = "0000000000000000";

#[test]
fn only_its_own_processes_are_there() {
    let (ddock, image) = Ddock::with_busybox();
    let stdout = ddock.sh(&[], &image, "echo $$; cd /proc; ls -d [0-9]*; cat 1/comm");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!((lines[0], lines[1]), ("1", "1"), "{stdout}");
    assert!(lines.len() <= 4, "PID 1, ls and no more: {stdout}");
}

#[test]
fn what_proc_has_of_the_command_is_its_users() {
    let (ddock, image) = Ddock::with_busybox();
    for (user, owner) in [("root", "0\n"), ("alice", "1000\n")] {
        let script = "stat -c %u /proc/1/environ";
        assert_eq!(ddock.sh(&["-u", user], &image, script), owner);
    }
}

#[test]
fn every_namespace_is_its_own() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "cd /proc/self/ns; for n in mnt uts ipc pid net cgroup; do readlink $n; done";
    for namespace in ddock.sh(&[], &image, script).lines() {
        let (name, _) = namespace.split_once(':').unwrap();
        let hosts = fs_err::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(hosts.to_str().unwrap(), namespace);
    }
}

#[test]
fn the_mounts_are_dockers_and_none_is_the_hosts() {
    let (ddock, image) = Ddock::with_busybox();
    let mounts = ddock.ok(&["run", "--rm", &image, "cat", "/proc/mounts"]);
    let find = |target: &str| {
        let mut words = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let found = words.find(|words| words[1] == target);
        found.unwrap_or_else(|| panic!("no mount on {target}:\n{mounts}"))
    };
    for (target, kind, options) in [
        ("/", "overlay", &["rw"][..]),
        ("/proc", "proc", &["rw", "nosuid", "nodev", "noexec"]),
        ("/dev", "tmpfs", &["rw", "nosuid", "mode=755"]),
        (
            "/dev/pts",
            "devpts",
            &["rw", "nosuid", "noexec", "mode=620", "ptmxmode=666"],
        ),
        (
            "/dev/shm",
            "tmpfs",
            &["rw", "nosuid", "nodev", "noexec", "size=65536k"],
        ),
        (
            "/dev/mqueue",
            "mqueue",
            &["rw", "nosuid", "nodev", "noexec"],
        ),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
        ("/proc/sys", "proc", &["ro", "nosuid", "nodev", "noexec"]),
        ("/proc/bus", "proc", &["ro"]),
    ] {
        let words = find(target);
        assert_eq!(words[2], kind, "{target}: {words:?}");
        let set: Vec<&str> = words[3].split(',').collect();
        for option in options {
            assert!(set.contains(option), "{target} lacks {option}: {words:?}");
        }
    }
    let scratch = ddock.scratch().path().to_str().unwrap();
    let device = |line: &&str| line.starts_with("/dev/");
    assert_eq!(mounts.lines().find(device), None, "a host's device");
    let leaks = mounts.lines().filter(|line| !line.contains(" /etc/"));
    for line in leaks {
        let target = line.split(' ').nth(1).unwrap();
        assert!(!target.contains(scratch), "{line}");
    }
}

#[test]
fn cgroups_are_read_only_and_begin_at_the_container() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "cut -d: -f3 /proc/self/cgroup | sort -u; \
        mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x 2>/dev/null && echo writable; true";
    assert_eq!(ddock.sh(&[], &image, script), "/\n");
}

#[test]
fn a_privileged_container_can_write_to_its_cgroups() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "for d in $(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts); do mkdir $d/x && rmdir $d/x || echo $d; done";
    assert_eq!(ddock.sh(&["--privileged"], &image, script), "");
}

#[test]
fn capabilities_are_dockers_and_flags_change_them() {
    let (ddock, image) = Ddock::with_busybox();
    let capabilities = |flags: &[&str]| {
        let stdout = ddock.sh(flags, &image, "grep ^Cap /proc/self/status");
        let mut values = stdout
            .lines()
            .map(|line| line.split_once('\t').unwrap().1.to_owned());
        let mut next = || values.next().unwrap();
        // In the kernel's order: inheritable, permitted, effective, bounding, ambient.
        let all = [next(), next(), next(), next(), next()];
        let [inheritable, permitted, effective, bounding, ambient] = all;
        assert_eq!(inheritable, NO_CAPABILITIES, "{flags:?}");
        assert_eq!(ambient, NO_CAPABILITIES, "{flags:?}");
        assert_eq!(permitted, effective, "{flags:?}");
        (effective, bounding)
    };
    let both = |set: &str| (set.to_owned(), set.to_owned());
    assert_eq!(capabilities(&[]), both(DEFAULT_CAPABILITIES));
    assert_eq!(
        capabilities(&["-u", "1000"]),
        (NO_CAPABILITIES.to_owned(), DEFAULT_CAPABILITIES.to_owned())
    );
    assert_eq!(capabilities(&["--cap-drop", "ALL"]), both(NO_CAPABILITIES));
    assert_eq!(
        capabilities(&["--cap-drop", "all", "--cap-add", "chown"]),
        both("0000000000000001")
    );
    assert_eq!(
        capabilities(&["--cap-drop", "CAP_MKNOD", "--cap-drop", "net_raw"]),
        both("00000000a00405fb")
    );
    assert_eq!(
        capabilities(&["--cap-add", "SYS_ADMIN"]),
        both("00000000a82425fb")
    );
    let last = fs_err::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    let last: u32 = last.trim().parse().unwrap();
    let all = format!("{:016x}", (1_u64 << (last + 1)) - 1);
    let own = fs_err::read_to_string("/proc/self/status").unwrap();
    if own.contains(&format!("CapBnd:\t{all}")) {
        assert_eq!(capabilities(&["--privileged"]), both(&all));
    }
    let unknown = ddock.run(&["run", "--rm", "--cap-add", "FLY", &image, "true"]);
    unknown.exits(125).says("FLY");
}

#[test]
fn what_tells_about_the_host_is_masked() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts /proc/sched_debug; do \
        [ ! -e $f ] || head -c 1 $f | wc -c; done | sort -u; ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null \
        | grep -v :$ | grep . ; true";
    assert_eq!(ddock.sh(&[], &image, script), "0\n");
    let script =
        "umount /proc/kcore 2>/dev/null || mount -t tmpfs x /tmp 2>/dev/null || echo refused";
    assert_eq!(ddock.sh(&[], &image, script), "refused\n");
}

#[test]
fn devices_are_the_six_harmless_ones() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "cd /dev; stat -c '%n %t:%T %a %F' * | grep 'character' | sort";
    let devices = ddock.sh(&[], &image, script);
    let names: Vec<&str> = devices
        .lines()
        .map(|l| l.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        names,
        ["full", "null", "random", "tty", "urandom", "zero"],
        "{devices}"
    );
    assert!(devices.contains("null 1:3 666"), "{devices}");
    let script = "cd /dev; for l in ptmx fd stdin stdout stderr; do readlink $l; done; echo x > null && head -c 2 zero | wc -c";
    assert_eq!(
        ddock.sh(&[], &image, script),
        "pts/ptmx\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n2\n"
    );
}

#[test]
fn a_device_that_is_not_on_the_list_cannot_be_opened() {
    let (ddock, image) = Ddock::with_busybox();
    // 1:11 is /dev/kmsg; the node can be made (CAP_MKNOD is a default), its use is refused.
    let script = "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg 2>/dev/null && echo open; true";
    assert_eq!(ddock.sh(&[], &image, script), "");
}

#[test]
fn no_network_is_loopback_up_and_nothing_else() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "ls /sys/class/net; ifconfig lo | grep -o 'UP LOOPBACK'; ping -c 1 -W 2 127.0.0.1 >/dev/null && echo pong";
    assert_eq!(
        ddock.sh(&["--network", "none"], &image, script),
        "lo\nUP LOOPBACK\npong\n"
    );
}

#[test]
fn the_hosts_network_is_there_when_asked_for() {
    let (ddock, image) = Ddock::with_busybox();
    let inside = ddock.sh(
        &["--network", "host"],
        &image,
        "readlink /proc/self/ns/net; hostname",
    );
    let namespace = fs_err::read_link("/proc/thread-self/ns/net").unwrap();
    let hostname = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(inside, format!("{}\n{hostname}", namespace.display()));
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    let (ddock, image) = Ddock::with_busybox();
    for (flags, name) in [
        (&["--link", "a"][..], "--link"),
        (&["--network", "frontend"], "frontend"),
    ] {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([&image, "true"]);
        ddock.run(&args).exits(125).says(name);
    }
}

#[test]
fn a_read_only_root_is_read_only_and_the_rest_is_not() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "for d in / /etc /bin; do touch $d/x 2>/dev/null && echo $d; done; \
        touch /dev/shm/x /t/x && echo fine";
    assert_eq!(
        ddock.sh(&["--read-only", "--tmpfs", "/t"], &image, script),
        "fine\n"
    );
}

#[test]
fn the_layers_do_not_change() {
    let (ddock, image) = Ddock::with_busybox();
    ddock.sh(
        &[],
        &image,
        "echo bad > /etc/passwd; rm -rf /home; touch /new",
    );
    assert_eq!(
        ddock.sh(
            &[],
            &image,
            "head -c 4 /etc/passwd; ls -d /home /new 2>/dev/null; true"
        ),
        "root/home\n"
    );
}

#[test]
fn an_image_cannot_move_the_mounts_by_symlinks() {
    for (path, target) in [("proc", "/tmp"), ("sys", "/tmp"), ("dev", "/tmp")] {
        let tree = busybox_tree().symlink(path, target);
        let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
        let output = ddock.run(&["run", "--rm", &image, "ls", "/tmp"]);
        assert!(
            output.code == 125 || (output.code == 0 && output.stdout.is_empty()),
            "/{path} -> {target}: {}",
            output.text()
        );
    }
    let victim = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(victim.path(), "the host's\n").unwrap();
    let name = victim.path().to_str().unwrap();
    let tree = busybox_tree()
        .symlink("etc/hostname", name)
        .symlink("etc/hosts", name)
        .symlink("etc/resolv.conf", &format!("../../..{name}"));
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
    ddock.run(&["run", "--rm", &image, "sh", "-c", "echo bad > /etc/hosts"]);
    assert_eq!(fs_err::read_to_string(name).unwrap(), "the host's\n");
}

#[test]
fn the_work_directory_of_an_image_cannot_leave_the_root() {
    use crate::harness::image::busybox;
    for directory in [
        "/proc/self/fd/3",
        "/proc/self/fd/7/../../..",
        "/../../../etc",
    ] {
        let image = busybox().config("WorkingDir", serde_json::json!(directory));
        let (ddock, image) = Ddock::with(image);
        let output = ddock.run(&[
            "run",
            "--rm",
            &image,
            "sh",
            "-c",
            "cat passwd ../../../etc/passwd",
        ]);
        let hosts = fs_err::read_to_string("/etc/passwd").unwrap();
        assert!(
            !output.stdout.contains(hosts.lines().nth(1).unwrap()),
            "{directory}: {}",
            output.text()
        );
    }
}
