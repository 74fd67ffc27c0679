//! Cgroups of the real kernel, and what is felt in them.

mod devices;
mod ending;
mod users;

use super::*;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A cgroup that goes when the test ends, however it ends.
struct Guard(Cgroup);

impl Drop for Guard {
    fn drop(&mut self) {
        let found = Cgroup::open(&self.0.path).unwrap();
        let killed = found.kill(DEATH);
        let removed = found.remove(REMOVAL);
        if !std::thread::panicking() {
            killed.and(removed).unwrap();
        }
    }
}

fn new_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!(
        "test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    Path::new("ddock").join(id)
}

fn create(limits: &Limits) -> Guard {
    Guard(Cgroup::create(&new_path(), limits).unwrap())
}

/// Memory, and memory and swap together, in bytes.
fn memory(limit: u64, swap: i64) -> Memory {
    Memory {
        limit: Some(limit),
        swap: Some(swap),
        ..Memory::default()
    }
}

fn cpu(quota: i64, period: u64) -> Cpu {
    Cpu {
        quota: Some(quota),
        period: Some(period),
        ..Cpu::default()
    }
}

/// Returns a shell that enters through this process's descriptors, then runs `script`.
fn shell(entrance: &Entrance, script: &str) -> Command {
    let files: Vec<_> = match entrance {
        Entrance::Tasks(files) => files
            .iter()
            .map(|file| file.as_raw_fd().to_string())
            .collect(),
        Entrance::Directory(directory) => {
            vec![format!("{}/cgroup.procs", directory.as_raw_fd())]
        }
    };
    assert!(
        !files.is_empty(),
        "these tests need the right to make cgroups"
    );
    let enter = files.iter().fold(String::new(), |enter, file| {
        enter
            + &format!(
                "echo 0 > /proc/{}/fd/{file} || exit 99\n",
                std::process::id()
            )
    });
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(enter + script)
        .stdin(Stdio::null())
        .env("LC_ALL", "C");
    command
}

fn run(cgroup: &Guard, script: &str) -> Output {
    let output = shell(&cgroup.0.entrance().unwrap(), script)
        .output()
        .unwrap();
    assert_ne!(output.status.code(), Some(99), "{output:?}");
    output
}

fn file(cgroup: &Cgroup, v1: &str, v2: &str) -> String {
    let name = if cgroup.version == Version::V1 {
        v1
    } else {
        v2
    };
    let found = cgroup
        .hierarchies
        .iter()
        .find_map(|joined| fs_err::read_to_string(joined.directory.join(name)).ok());
    found.unwrap().trim_end().to_owned()
}

fn exists(path: &Path) -> bool {
    !Cgroup::open(path).unwrap().hierarchies.is_empty()
}

#[test]
fn memory_beyond_the_limit_is_a_kill_that_is_told() {
    let limits = Limits {
        memory: memory(16 << 20, 16 << 20),
        ..Limits::default()
    };
    let cgroup = create(&limits);
    assert_eq!(
        file(&cgroup.0, "memory.limit_in_bytes", "memory.max"),
        "16777216"
    );
    let modest = run(&cgroup, "true");
    assert!(
        modest.status.success() && !cgroup.0.oom_killed(),
        "{modest:?}"
    );
    let greedy = run(&cgroup, "x=0123456789abcdef; while :; do x=$x$x; done");
    assert_eq!(greedy.status.signal(), Some(9), "{greedy:?}");
    assert!(cgroup.0.oom_killed());
}

#[test]
fn swap_is_limited_with_memory() {
    let limits = Limits {
        memory: memory(16 << 20, 24 << 20),
        ..Limits::default()
    };
    let cgroup = create(&limits);
    assert_eq!(
        file(&cgroup.0, "memory.memsw.limit_in_bytes", "memory.swap.max"),
        ["25165824", "8388608"][usize::from(cgroup.0.version == Version::V2)]
    );
}

#[test]
fn processes_beyond_the_limit_cannot_be_forked() {
    let two = create(&Limits {
        pids: Pids::AtMost(2),
        ..Limits::default()
    });
    let one = create(&Limits {
        pids: Pids::AtMost(1),
        ..Limits::default()
    });
    assert!(run(&two, "(exit 0); exit 0").status.success());
    let refused = run(&one, "(exit 0); exit 0");
    assert!(
        !refused.status.success() && !refused.stderr.is_empty(),
        "{refused:?}"
    );
}

#[test]
fn processor_time_is_limited() {
    let cpu = cpu(20_000, 50_000);
    let cgroup = create(&Limits {
        cpu,
        ..Limits::default()
    });
    let (v1, v2) = ("20000", "20000 50000");
    let expected = if cgroup.0.version == Version::V1 {
        v1
    } else {
        v2
    };
    assert_eq!(file(&cgroup.0, "cpu.cfs_quota_us", "cpu.max"), expected);
    // Looking is the work that is throttled.
    let mut at = cgroup
        .0
        .hierarchies
        .iter()
        .map(|joined| joined.directory.join("cpu.stat"));
    let stat = at.rfind(|stat| stat.exists()).unwrap();
    run(
        &cgroup,
        &format!(
            "while grep -q 'nr_throttled 0' {}; do :; done",
            stat.display()
        ),
    );
}

#[test]
fn a_limit_that_the_kernel_refuses_is_an_error_and_leaves_nothing() {
    let path = new_path();
    let cpu = cpu(1, 1);
    let error = Cgroup::create(
        &path,
        &Limits {
            cpu,
            ..Limits::default()
        },
    )
    .unwrap_err();
    assert_eq!(error.downcast_ref::<Unenforceable>().unwrap().what, "cpu");
    assert!(
        error
            .to_string()
            .starts_with("cannot limit cpu: writing `1"),
        "{error}"
    );
    assert!(!exists(&path));
}

#[test]
fn a_second_cgroup_of_the_same_name_is_refused() {
    let first = create(&Limits::default());
    Cgroup::create(&first.0.path, &Limits::default()).unwrap_err();
    assert!(exists(&first.0.path));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for bad in ["", "/", ".", "..", "a/../b", "../x", "/..", "a\nb"] {
        Cgroup::create(Path::new(bad), &Limits::default()).unwrap_err();
    }
}

#[test]
fn a_parent_is_made_and_stays() {
    let path = new_path();
    let parent = Path::new("/ddock-parent").join(path.file_name().unwrap());
    let limits = Limits {
        cpu: Cpu {
            cpus: "0".to_owned(),
            ..Cpu::default()
        },
        ..Limits::default()
    };
    let cgroup = Guard(Cgroup::create(&parent.join("a b"), &limits).unwrap());
    let made = cgroup.0.hierarchies[0].directory.clone();
    assert!(made.ends_with(parent.strip_prefix("/").unwrap().join("a b")));
    assert!(run(&cgroup, "true").status.success());
    let all: Vec<_> = cgroup
        .0
        .hierarchies
        .iter()
        .map(|it| it.directory.clone())
        .collect();
    drop(cgroup);
    for directory in all {
        let parent = directory.parent().unwrap();
        assert!(!directory.exists() && parent.exists());
        end::remove(parent, REMOVAL).unwrap();
        // Other tests may have theirs in it.
        rustix::fs::rmdir(parent.parent().unwrap()).ok();
    }
}

#[test]
fn processes_stay_on_their_processors() {
    let cgroup = create(&Limits {
        cpu: Cpu {
            cpus: "0".to_owned(),
            ..Cpu::default()
        },
        ..Limits::default()
    });
    let found = run(&cgroup, "grep ^Cpus_allowed_list: /proc/self/status");
    assert_eq!(
        String::from_utf8_lossy(&found.stdout),
        "Cpus_allowed_list:\t0\n"
    );
}

#[test]
fn shares_are_in_force() {
    let cgroup = create(&Limits {
        cpu: Cpu {
            shares: Some(512),
            ..Cpu::default()
        },
        ..Limits::default()
    });
    let expected = ["512", "59"][usize::from(cgroup.0.version == Version::V2)];
    assert_eq!(file(&cgroup.0, "cpu.shares", "cpu.weight"), expected);
}

#[test]
fn what_is_left_to_a_container_is_in_force() {
    let cgroup = create(&Limits {
        memory: Memory {
            reservation: Some(8 << 20),
            ..Memory::default()
        },
        ..Limits::default()
    });
    assert_eq!(
        file(&cgroup.0, "memory.soft_limit_in_bytes", "memory.low"),
        "8388608"
    );
}

#[test]
fn swap_without_memory_or_below_it_is_refused() {
    for (limit, swap) in [(None, 1 << 24), (Some(1 << 25), 1 << 24)] {
        let limits = Limits {
            memory: Memory {
                limit,
                swap: Some(swap),
                ..Memory::default()
            },
            ..Limits::default()
        };
        let error = Cgroup::create(&new_path(), &limits)
            .unwrap_err()
            .to_string();
        assert!(error.contains("memory"), "{error}");
    }
}

#[test]
fn the_view_names_each_hierarchy_and_its_controllers() {
    let hierarchy = |name: &str| Hierarchy {
        name: name.to_owned(),
        directory: PathBuf::new(),
    };
    let cgroup = |version, names: &[&str]| Cgroup {
        path: PathBuf::from("x"),
        version,
        hierarchies: names.iter().copied().map(hierarchy).collect(),
        guards_devices: false,
        notices: Vec::new(),
    };
    let v1 = cgroup(Version::V1, &["pids", "cpu,cpuacct"]).view();
    let mounts: Vec<_> = v1
        .mounts
        .iter()
        .map(|mount| (mount.name.as_str(), mount.fs_type, mount.options.len()))
        .collect();
    assert_eq!(
        mounts,
        [
            ("", "tmpfs", 2),
            ("pids", "cgroup", 1),
            ("cpu,cpuacct", "cgroup", 2)
        ]
    );
    let link = |name: &str| (name.to_owned(), "cpu,cpuacct".to_owned());
    assert_eq!(v1.symlinks, [link("cpu"), link("cpuacct")]);
    let v2 = cgroup(Version::V2, &[""]).view();
    assert_eq!(v2.mounts, [Mount::new("", "cgroup2", [])]);
}
