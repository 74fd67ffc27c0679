//! What programs read of memory and processors under limits: the limits.

use crate::harness::ddock::Ddock;
use crate::harness::image::Image;
use crate::harness::registry::Registry;

const READ: &str = "grep -E 'MemTotal|MemAvailable|SwapTotal' /proc/meminfo | tr -s ' '";

#[test]
fn memory_is_the_limit() {
    let (ddock, image) = Ddock::with_busybox();
    let stdout = ddock.sh(&["-m", "64m"], &image, READ);
    assert_eq!(
        stdout,
        "MemTotal: 65536 kB\nMemAvailable: 65536 kB\nSwapTotal: 0 kB\n"
    );
    let machine = fs_err::read_to_string("/proc/meminfo").unwrap();
    let total = machine.lines().next().unwrap().replace("       ", " ");
    for flags in [&[][..], &["-m", "64m", "--proc=host"], &["-m", "900g"]] {
        let stdout = ddock.sh(flags, &image, READ);
        assert!(stdout.starts_with(&total), "{flags:?}: {stdout}");
    }
}

#[test]
fn processors_are_as_many_as_the_limit_is_worth() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "cat /sys/devices/system/cpu/online; grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat; \
        top -bn1 | grep -c ^CPU:";
    assert_eq!(ddock.sh(&["--cpus=0.5"], &image, script), "0\n1\n1\n1\n");
    let machine = fs_err::read_to_string("/sys/devices/system/cpu/online").unwrap();
    for flags in [&[][..], &["--cpus=0.5", "--proc=host"]] {
        let stdout = ddock.sh(flags, &image, script);
        assert!(stdout.starts_with(&machine), "{flags:?}: {stdout}");
    }
}

#[test]
fn the_c_library_counts_what_the_limit_is_worth() {
    let ddock = Ddock::new();
    let registry = Registry::start();
    let image = registry.push("test/distribution:latest", &Image::distribution());
    ddock.ok(&["pull", "-q", &image]);
    let script = "getconf _NPROCESSORS_ONLN; getconf _PHYS_PAGES";
    let stdout = ddock.sh(&["--cpus=1", "-m", "64m"], &image, script);
    // The kernel itself is asked for pages (sysinfo(2)): that no file can change.
    assert!(stdout.starts_with("1\n"), "{stdout}");
}

#[test]
fn nothing_is_mounted_without_a_limit_that_tells() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "grep -cE ' /proc/(meminfo|stat|cpuinfo|swaps) | /sys/devices' /proc/mounts";
    for flags in [&[][..], &["--pids-limit=20"], &["-m", "64m", "--proc=host"]] {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([&*image, "sh", "-c", script]);
        assert_eq!(ddock.run(&args).stdout, "0\n", "{flags:?}");
    }
    let output = ddock.run(&["run", "--rm", "--proc=x", &image, "true"]);
    output
        .exits(125)
        .says("--proc: expected `limits` or `host`");
}

#[test]
fn the_files_cannot_be_written_or_laid_elsewhere() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "echo x > /proc/meminfo || echo kept; echo x > /sys/devices/system/cpu/online || echo kept; \
        mount -t proc x /mnt || echo refused; grep -E '/proc/meminfo' /proc/mounts | cut -d' ' -f4 | cut -d, -f1-4";
    let stdout = ddock.sh(&["-m", "64m", "--cpus=0.5"], &image, script);
    assert_eq!(stdout, "kept\nkept\nrefused\nro,nosuid,nodev,noexec\n");

    // Where the user puts something else, that is shown.
    let sys = ddock.scratch().dir("sys");
    let bind = format!("{}:/sys", sys.display());
    let flags = ["--cpus=0.5", "-v", &*bind];
    assert_eq!(
        ddock.sh(&flags, &image, "ls /sys/devices 2>&1 | wc -l"),
        "1\n"
    );
}
