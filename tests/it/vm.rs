//! ddock on another kernel, with pure cgroup v2: a virtual machine with the distribution's own (scripts/test-vm).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::ddock::binary;
use crate::harness::image::{Image, busybox};
use crate::limits::{CHECKS, assert_said, expected};

/// What the machine runs. Each check prints one line.
const SCRIPT: &str = r#"
cd /root && export DDOCK_ROOT=/root/store HOME=/root
busybox httpd -p 127.0.0.1:5000 -h "$WWW"
image=127.0.0.1:5000/test/image:latest
# The machine has no modules for a bridge.
run() { "$DDOCK" run --rm --network none "$@"; }
"$DDOCK" pull -q $image >/dev/null; echo "pull $?"

script='cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max; read go'
mkfifo go
run -i --memory 64m --cpus 0.5 --pids-limit 20 $image sh -c "$script" <go >inside &
exec 3>go
for i in $(seq 100); do [ "$(cat inside | wc -l)" = 3 ] && break; sleep 0.1; done
echo "inside" $(cat inside)
own=$(echo /sys/fs/cgroup/ddock/*/)
echo "outside" $(cat $own/memory.max $own/cpu.max $own/pids.max)
exec 3>&-
wait

echo "view" $(run $image sh -c 'cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x 2>/dev/null || echo read-only')
echo "fork" $(run --pids-limit 5 $image sh -c 'for i in 1 2 3 4 5 6; do sleep 9 & done; echo all' 2>&1 | grep -c fork)
run -m 32m $image tail /dev/zero 2>told; echo "memory $? $(grep -c 'memory limit' told)"
echo "device" $(run $image sh -c 'mknod /k c 1 11; head -c 1 /k 2>&1; head -c 1 /dev/zero | wc -c')
for command in 'exit 7' 'exec absent' 'exec /etc'; do
    run $image sh -c "$command" 2>/dev/null; echo "$command: $?"
done
run $image absent 2>/dev/null; echo "absent: $?"
run $image /etc 2>/dev/null; echo "directory: $?"
echo "host" $(run --pid host $image sh -c '(setsid sleep 7777 &); [ $$ = 1 ] || echo beside'; ps | grep -c '[s]leep 7777')
echo "told" $(run -m 64m $image grep MemTotal /proc/meminfo)
run --name donor --ipc shareable $image sleep 7777 &
for i in $(seq 100); do "$DDOCK" ps | grep -q donor && break; sleep 0.1; done
join=container:donor
echo "joined" $(run --pid $join --ipc $join --network $join $image sh -c 'cat /proc/1/comm; echo x > /dev/shm/x && echo memory')
"$DDOCK" rm -f donor >/dev/null; wait
echo "left" $(find /sys/fs/cgroup/ddock -mindepth 1 -type d; grep overlay /proc/mounts; ls store/v1/containers store/v1/tmp | grep -v :)
"#;

/// Lays an image out as the files that any web server serves as a registry.
fn write_registry(image: &Image, www: &Path) {
    let repository = www.join("v2/test/image");
    for directory in ["blobs", "manifests"] {
        fs_err::create_dir_all(repository.join(directory)).unwrap();
    }
    for blob in &image.blobs {
        fs_err::write(repository.join("blobs").join(&blob.digest), &blob.bytes).unwrap();
    }
    for name in [&image.top().digest, "latest"] {
        fs_err::write(repository.join("manifests").join(name), &image.top().bytes).unwrap();
    }
    fs_err::write(www.join("v2/index.html"), "{}").unwrap();
}

/// Runs a script in a machine with this version of cgroups and nothing else, and returns what it said and its errors.
///
/// `WWW` has an image of busybox to serve, `DDOCK` is the program.
fn in_machine(cgroup: &str, script: &str) -> (String, String) {
    let ddock = binary();
    // Not in /tmp or /dev/shm: the machine has its own there.
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let directory = tempfile::tempdir_in(directory).unwrap();
    let (www, file) = (
        directory.path().join("www"),
        directory.path().join("script"),
    );
    write_registry(&busybox().build(), &www);
    fs_err::write(&file, script).unwrap();
    let output = Command::new("scripts/test-vm")
        .env("CGROUP", cgroup)
        .arg(directory.path())
        .arg(&ddock)
        .args(["--", "env"])
        .args([
            format!("WWW={}", www.display()),
            format!("DDOCK={}", ddock.display()),
        ])
        .args(["sh".as_ref(), file.as_os_str()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn an_older_kernel_with_cgroup_v2_alone_does_it_all() {
    let (said, errors) = in_machine("v2", SCRIPT);
    let limits = "67108864 50000 100000 20";
    let expected = [
        "pull 0",
        &format!("inside {limits}"),
        &format!("outside {limits}"),
        "view 0::/ read-only",
        "fork 1",
        "memory 137 1",
        "device head: /k: Operation not permitted 1",
        "exit 7: 7",
        "exec absent: 127",
        "exec /etc: 126",
        "absent: 127",
        "directory: 126",
        "host beside 0",
        "told MemTotal: 65536 kB",
        "joined sleep memory",
        "left",
    ];
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, expected, "{errors}");
}

/// Before `limits.sh`: the image, and a disk.
const PREPARE: &str = r#"
export WORK=/root/work DDOCK_ROOT=/root/store HOME=/root IMAGE=127.0.0.1:5000/test/image:latest
mkdir -p $WORK && cd $WORK && mkfifo wait
busybox httpd -p 127.0.0.1:5000 -h "$WWW"
"$DDOCK" pull -q $IMAGE >/dev/null
truncate -s 4M disk && DISK=$(losetup -f) && losetup $DISK disk
"#;

#[test]
fn every_limit_is_in_force_and_felt_on_cgroup_v2() {
    let (said, errors) = in_machine("v2", &format!("{PREPARE}{CHECKS}"));
    assert_said(&said, &expected(2, "weight default 4950"), &errors);
}

#[test]
fn every_limit_is_in_force_and_felt_on_cgroup_v1() {
    let (said, errors) = in_machine("v1", &format!("{PREPARE}{CHECKS}"));
    // No BFQ there: refused with the reason and the cure.
    assert_said(&said, &expected(1, "weight 2"), &errors);
}

#[test]
fn an_ordinary_user_limits_what_was_handed_down_and_is_told_of_the_rest() {
    let checks = include_str!("limits_user.sh");
    let (said, errors) = in_machine("v2", &format!("{PREPARE}{checks}"));
    let expected = [
        &["refused 125 1 1"; 10][..],
        &[
            "no limit, no refusal",
            "5",
            "sysctl 77 0",
            "handed down 67108864 50000 100000 20 59 0",
            "killed 137 1",
            "1",
            "refused 125 1 1",
            "parent mine",
            "left",
            "",
        ],
    ];
    assert_said(&said, &expected.concat().join("\n"), &errors);
}
