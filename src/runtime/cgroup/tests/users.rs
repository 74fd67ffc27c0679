//! What an ordinary user can limit.

use super::*;

#[test]
fn an_ordinary_user_is_told_or_gets_none() {
    let as_nobody = |limits: Limits| {
        let drop_rights = move || {
            // Of this thread alone, unlike setuid(3).
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
            Cgroup::create(&new_path(), &limits)
        };
        std::thread::spawn(drop_rights).join().unwrap()
    };
    let default = Limits {
        devices: DEFAULT_DEVICES.to_vec(),
        ..Limits::default()
    };
    let cgroup = as_nobody(default).unwrap();
    assert!(cgroup.hierarchies.is_empty() && !cgroup.guards_devices());
    assert!(matches!(cgroup.entrance().unwrap(), Entrance::Tasks(files) if files.is_empty()));
    assert_eq!(cgroup.view(), View::default());
    for (limits, what) in [
        (
            Limits {
                pids: Pids::AtMost(5),
                ..Limits::default()
            },
            "pids",
        ),
        (
            Limits {
                memory: memory(1 << 24, -1),
                ..Limits::default()
            },
            "memory",
        ),
    ] {
        let error = as_nobody(limits).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot limit {what}: ")),
            "{error}"
        );
        assert!(
            error
                .downcast_ref::<Unenforceable>()
                .unwrap()
                .cure
                .is_some()
        );
    }
}

/// Needs cgroup v2: where there is none, it runs itself in a virtual machine, and all the other tests here with it.
#[test]
fn an_ordinary_user_limits_below_a_delegated_cgroup() {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return limit_below_a_delegated_cgroup();
    }
    let this = std::env::current_exe().unwrap();
    let mut machine = Command::new("scripts/test-vm");
    machine.args([this.as_os_str(), "--".as_ref(), this.as_os_str()]);
    machine.args(["runtime::cgroup", "--test-threads=1"]);
    let inside = machine.output().unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    let name = "an_ordinary_user_limits_below_a_delegated_cgroup ... ok";
    assert!(inside.status.success() && said.contains(name), "{said}");
}

fn limit_below_a_delegated_cgroup() {
    const NOBODY: u32 = 65534;
    let write = |path: &Path, value: &str| setting::overwrite(path, value).unwrap();
    let (root, outer) = (Path::new(ROOT), Path::new(ROOT).join("outer"));
    let (delegated, own) = (outer.join("delegated"), outer.join("delegated/own"));
    fs_err::create_dir_all(&own).unwrap();
    write(&root.join("cgroup.subtree_control"), "+memory +pids");
    write(&outer.join("cgroup.subtree_control"), "+memory +pids");
    for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
        fs_err::os::unix::fs::chown(delegated.join(file), Some(NOBODY), None).unwrap();
    }
    write(&own.join("cgroup.procs"), "0");
    let as_nobody = || {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(NOBODY)).unwrap();
        let limits = Limits {
            memory: memory(1 << 24, -1),
            pids: Pids::AtMost(1),
            ..Limits::default()
        };
        let cgroup = Cgroup::create(&new_path(), &limits)?;
        let directory = cgroup.hierarchies[0].directory.clone();
        let script = format!(
            "echo 0 > {}/cgroup.procs && (exit 0); exit 0",
            directory.display()
        );
        let forked = Command::new("sh").args(["-c", &script]).output()?;
        let found = exists(&cgroup.path);
        let cpu = cpu(5000, 10000);
        let refused = Cgroup::create(
            &new_path(),
            &Limits {
                cpu,
                ..Limits::default()
            },
        )
        .unwrap_err();
        cgroup.remove(REMOVAL)?;
        anyhow::Ok((directory, forked, found, refused))
    };
    let outcome = std::thread::scope(|scope| scope.spawn(as_nobody).join());
    write(&root.join("cgroup.procs"), "0");
    end::remove(&outer, REMOVAL).unwrap();
    let (directory, forked, found, refused) = outcome.unwrap().unwrap();
    assert!(directory.starts_with(delegated.join("ddock")) && found);
    assert!(
        !forked.status.success() && !forked.stderr.is_empty(),
        "{forked:?}"
    );
    let refused = refused.downcast::<Unenforceable>().unwrap();
    assert_eq!(refused.what, "cpu");
    assert!(refused.cure.unwrap().contains("cgroup.controllers"));
}
