//! Devices that open and devices that do not.

use super::*;

#[test]
fn only_listed_devices_open() {
    // kmsg is 1:11; made here, because making it is allowed.
    let script = "d=$(mktemp -d) && mknod $d/null c 1 3 && mknod $d/kmsg c 1 11 && mknod $d/disk b 8 0 || exit 98
        for device in null kmsg disk; do
            if (: < $d/$device) 2> $d/error; then echo $device opens; else cat $d/error >&2; fi
        done; rm -r $d";
    let guarded = create(&Limits {
        devices: DEFAULT_DEVICES.to_vec(),
        ..Limits::default()
    });
    let read_kmsg = DeviceRule {
        access: Access::parse("r").unwrap(),
        ..DeviceRule::character(1, Some(11))
    };
    let wider = [DEFAULT_DEVICES.as_slice(), &[read_kmsg]].concat();
    let wider = create(&Limits {
        devices: wider,
        ..Limits::default()
    });
    let narrower = DeviceRule {
        allow: false,
        access: Access::READ,
        ..DeviceRule::character(1, Some(3))
    };
    let narrower = create(&Limits {
        devices: vec![narrower],
        ..Limits::default()
    });
    let open = create(&Limits::default());
    for (cgroup, guards, opens) in [
        (&guarded, true, "null opens\n"),
        (&wider, true, "null opens\nkmsg opens\n"),
        (&narrower, true, "kmsg opens\n"),
        (&open, false, "null opens\nkmsg opens\n"),
    ] {
        assert_eq!(cgroup.0.guards_devices(), guards);
        let output = run(cgroup, script);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), opens, "{output:?}");
    }
    let refused = String::from_utf8(run(&guarded, script).stderr).unwrap();
    assert_eq!(
        refused.matches("Operation not permitted").count(),
        2,
        "{refused}"
    );
}

#[test]
fn access_is_allowed_bit_by_bit() {
    let kmsg = |allow, access| DeviceRule {
        allow,
        access: Access::parse(access).unwrap(),
        ..DeviceRule::character(1, Some(11))
    };
    let deny = DeviceRule::DENY_ALL;
    let make = kmsg(true, "m");
    for (rules, opens) in [
        (
            vec![deny, make, kmsg(true, "r"), kmsg(true, "w")],
            [true, true, true],
        ),
        (
            vec![deny, make, kmsg(true, "rw"), kmsg(false, "w")],
            [true, false, false],
        ),
        (vec![deny, make, kmsg(true, "w")], [false, true, false]),
        (
            vec![make, kmsg(false, "r"), kmsg(true, "r")],
            [true, true, true],
        ),
    ] {
        let cgroup = create(&Limits {
            devices: rules.clone(),
            ..Limits::default()
        });
        for (mode, opens) in ["<", ">", "<>"].into_iter().zip(opens) {
            let script =
                format!("d=$(mktemp -u); mknod $d c 1 11; (: {mode} $d); e=$?; rm $d; exit $e");
            assert_eq!(
                run(&cgroup, &script).status.success(),
                opens,
                "{mode} {rules:?}"
            );
        }
    }
}
