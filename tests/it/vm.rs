//! ddock on another kernel, with pure cgroup v2: a virtual machine with the distribution's own (scripts/test-vm).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::ddock::binary;
use crate::harness::image::{Image, busybox};
use crate::harness::scratch::chmod;
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
echo "joined" $("$DDOCK" run --rm --pid $join --ipc $join --network $join $image sh -c 'cat /proc/1/comm; echo x > /dev/shm/x && echo memory')
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
    with_files(cgroup, script, |_| ())
}

/// As [`in_machine`], with what `add` puts beside the script, in the directory that the machine's begins in.
pub(crate) fn with_files(cgroup: &str, script: &str, add: impl FnOnce(&Path)) -> (String, String) {
    let ddock = binary();
    // Not in /tmp or /dev/shm: the machine has its own there.
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let directory = tempfile::tempdir_in(directory).unwrap();
    let (www, file) = (
        directory.path().join("www"),
        directory.path().join("script"),
    );
    add(directory.path());
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

/// One module after the other goes, and nothing loads it again. The host forwards already: otherwise its firewall keeps what
/// ddock added, and the modules are in use.
const WITHOUT_NETWORKS: &str = r#"
cd /root && export DDOCK_ROOT=/root/store HOME=/root
busybox httpd -p 127.0.0.1:5000 -h "$WWW"
image=127.0.0.1:5000/test/image:latest
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
"$DDOCK" pull -q $image >/dev/null
try() {
    for module in "$@"; do rmmod $module || echo "rmmod $module"; done
    "$DDOCK" network create net >/dev/null
    "$DDOCK" run --rm --network net $image true 2>&1 | sed '/forwards packets/d; s/.* need none): //'
    "$DDOCK" network rm net
}
try
try veth
try bridge
insmod /modules/bridge.ko
try nft_socket nft_nat nft_masq nft_chain_nat nft_ct nf_tables
try nf_nat nf_conntrack nfnetlink
"$DDOCK" ps -aq
"#;

#[test]
fn a_kernel_without_what_networks_need_is_told_of_in_one_line() {
    let (said, errors) = in_machine("v2", WITHOUT_NETWORKS);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 9, "{said}{errors}");
    assert_eq!(lines[0], "net", "{said}{errors}");
    for (at, lacks) in [
        (1, "pairs of links (module `veth`): "),
        (3, "bridges (module `bridge`): "),
        (5, "nftables (module `nf_tables`): "),
        (7, "nftables (modules `nfnetlink` and `nf_tables`): "),
    ] {
        let expected = format!("this machine's kernel has no {lacks}");
        assert!(lines[at].starts_with(&expected), "{said}{errors}");
        assert_eq!(lines[at + 1], "net", "{said}{errors}");
    }
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

/// Copies AppArmor's compiler with its libraries, which the machine has not, and a script that calls it.
fn add_parser(directory: &Path) {
    let own = directory.join("parser");
    fs_err::create_dir(&own).unwrap();
    let program = "/usr/sbin/apparmor_parser";
    let libraries = Command::new("ldd").arg(program).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    let words = libraries.split_whitespace();
    for file in words.filter(|word| word.starts_with('/')).chain([program]) {
        let name = Path::new(file).file_name().unwrap();
        fs_err::copy(file, own.join(name)).unwrap();
        let loader = name.to_str().filter(|name| name.starts_with("ld-"));
        if let Some(loader) = loader {
            // Not by the program's own name: what is called is the script.
            let script = format!(
                "#!/bin/sh\nexec {own}/{loader} --library-path {own} {own}/program \"$@\"\n",
                own = own.display()
            );
            fs_err::write(own.join("script"), script).unwrap();
        }
    }
    fs_err::rename(own.join("apparmor_parser"), own.join("program")).unwrap();
    fs_err::rename(own.join("script"), own.join("apparmor_parser")).unwrap();
    chmod(&own.join("apparmor_parser"), 0o755);
}

/// What a container of the default profile may and may not.
const CONFINED: &str = r#"
mount -t securityfs securityfs /sys/kernel/security
cd /root && export DDOCK_ROOT=/root/store HOME=/root
busybox httpd -p 127.0.0.1:5000 -h "$WWW"
image=127.0.0.1:5000/test/image:latest
run() { "$DDOCK" run --rm --network none "$@"; }
opt() { run --security-opt "$@"; }
current=/proc/self/attr/apparmor/current
"$DDOCK" pull -q $image >/dev/null
echo "parser absent:" $(run $image cat $current 2>told) $(grep -c 'has no AppArmor profile: `apparmor_parser` is not installed' told)
export PATH=$PATH:${WWW%/www}/parser
echo "told:" $("$DDOCK" info | grep -o 'name=apparmor[^"]*')
echo "default:" $(run $image cat $current)
echo "init:" $(run --init $image sh -c "cat /proc/1/attr/apparmor/current $current")
echo "user:" $(run -u 1000 --security-opt no-new-privileges $image cat $current)
echo "unconfined:" $(opt apparmor=unconfined $image cat $current)
echo "privileged:" $(run --privileged $image cat $current)
echo "bundle:" $(run --dry-run $image | grep -o 'apparmorProfile.*"')
opt apparmor=absent $image true 2>told; echo "absent: $?" $(cat told)
echo 'profile mine { file, network, capability, deny /etc/passwd r, }' | apparmor_parser -r -K 2>/dev/null
echo "mine:" $(opt apparmor=mine $image sh -c "cat $current; cat /etc/passwd 2>&1")
try='mkdir /m; mount -t tmpfs none /m 2>&1 && echo mounted; echo 1 2>/dev/null >/proc/sys/kernel/panic || echo read-only'
flags="--cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
echo "mount:" $(run $flags $image sh -c "$try")
echo "mount unconfined:" $(run $flags --security-opt apparmor=unconfined $image sh -c "$try")
echo "signals:" $(run $image sh -c 'sleep 9 & kill $!; wait $!; echo $?; grep -c sleep /proc/1/cmdline' 2>/dev/null)
run -d --name stopped $image sh -c 'trap "exit 7" TERM; while :; do sleep 0.1; done' >/dev/null
"$DDOCK" stop stopped

# An ordinary user, whose store needs user attributes, which this kernel's tmpfs has not.
echo 'alice:x:1000:1000::/home/alice:/bin/sh' >>/etc/passwd
truncate -s 64M home && mke2fs -F home >/dev/null 2>&1
mkdir -p /home/alice && mount -o loop home /home/alice && chown 1000:1000 /home/alice
chmod 755 /root
as_alice() { HOME=/home/alice DDOCK_ROOT=/home/alice/store su -p -c 'exec "$@"' -- alice sh "$DDOCK" "$@"; }
as_alice pull -q $image >/dev/null
alice="as_alice run --rm --network none"
echo "alice:" $($alice $image cat $current) $($alice --security-opt apparmor=mine $image cat $current)
echo "alice told:" $(as_alice info | grep -o 'name=apparmor[^"]*')
"#;

#[test]
fn containers_are_confined_by_apparmor_where_the_kernel_has_it() {
    let (said, errors) = with_files("v2", CONFINED, add_parser);
    let expected = [
        "parser absent: unconfined 1",
        "told: name=apparmor,profile=ddock-default",
        "default: ddock-default (enforce)",
        "init: ddock-default (enforce) ddock-default (enforce)",
        "user: ddock-default (enforce)",
        "unconfined: unconfined",
        "privileged: unconfined",
        "bundle: apparmorProfile\": \"ddock-default\"",
        "absent: 125 ddock: cannot run `127.0.0.1:5000/test/image:latest`: the AppArmor profile `absent` is not loaded \
         hint: `apparmor_parser -r FILE` loads it, and `aa-status` lists those that are",
        "mine: mine (enforce) cat: can't open '/etc/passwd': Permission denied",
        "mount: mount: mounting none on /m failed: Permission denied read-only",
        "mount unconfined: mounted",
        "signals: 143 1",
        "stopped",
        "alice: unconfined mine (enforce)",
        "alice told: name=apparmor,profile=none",
    ];
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, expected, "{errors}");
}
