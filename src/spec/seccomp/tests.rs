//! What of a profile holds for whom, and profiles that are refused.

use super::*;
use crate::spec::capabilities;
use serde_json::json;

/// Docker's default profile as it is published.
const PUBLISHED: &str = include_str!("../../../tests/it/seccomp/moby.json");

const HERE: Facts = Facts {
    machine: Machine::X86_64,
    kernel: (6, 1),
};

/// Without what no container of ours can call, and with socketcall(2) as ours has it.
fn published(capabilities: &Names, facts: Facts) -> Value {
    let mut filter = profile::evaluate(PUBLISHED, capabilities, facts)
        .unwrap()
        .unwrap();
    let rules = filter["syscalls"].as_array_mut().unwrap();
    let names = rules[0]["names"].as_array_mut().unwrap();
    names.retain(|name| name != "socketcall" && name != "riscv_hwprobe");
    let socketcall = json!({ "names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 });
    rules.insert(1, socketcall);
    filter
}

#[test]
fn the_builtin_profile_is_the_published_one() {
    let every = capabilities::all(u64::MAX);
    let each = every.iter().map(|name| Names::from([*name]));
    for capabilities in each.chain([Names::new(), every.clone()]) {
        for kernel in [(3, 10), (4, 7), (4, 8), (6, 1)] {
            for machine in [Machine::X86_64, Machine::Aarch64] {
                let facts = Facts { machine, kernel };
                let (ours, docker) = (
                    builtin::filter(&capabilities, facts),
                    published(&capabilities, facts),
                );
                assert_eq!(ours, docker, "{capabilities:?} {facts:?}");
            }
        }
    }
}

#[test]
fn the_usual_filter_is_the_compiled_one() {
    let usual = Names::from(capabilities::DEFAULT);
    let made = builtin::filter(&usual, HERE);
    let compiled: Value = serde_json::from_str(runtime::COMPILED_PROFILE).unwrap();
    if compiled != made {
        let path = std::env::temp_dir().join("profile.json");
        fs_err::write(&path, serde_json::to_string(&made).unwrap()).unwrap();
        panic!(
            "src/runtime/seccomp/compiled/profile.json is another: see {}",
            path.display()
        );
    }
    let mut every: Vec<Names> = capabilities::all(u64::MAX)
        .into_iter()
        .flat_map(|name| {
            let (mut more, mut less) = (usual.clone(), usual.clone());
            more.insert(name);
            less.remove(name);
            [more, less]
        })
        .collect();
    every.extend([Names::new(), capabilities::all(u64::MAX)]);
    for capabilities in every {
        for kernel in [(4, 7), (4, 8), (6, 18)] {
            for machine in [Machine::X86_64, Machine::Aarch64] {
                let facts = Facts { machine, kernel };
                assert_eq!(
                    builtin::is_usual(&capabilities, facts),
                    builtin::filter(&capabilities, facts) == compiled,
                    "{capabilities:?} {facts:?}"
                );
            }
        }
    }
}

/// Returns the actions of the rules for `name`, and whether they look at arguments.
fn rules(filter: &Value, name: &str) -> Vec<(String, bool)> {
    let rules = filter["syscalls"].as_array().unwrap().iter();
    let rules = rules.filter(|rule| rule["names"].as_array().unwrap().contains(&json!(name)));
    let text = |rule: &Value| rule["action"].as_str().unwrap().to_owned();
    rules
        .map(|rule| (text(rule), rule.get("args").is_some()))
        .collect()
}

#[test]
fn capabilities_widen_the_default() {
    let allow = |with_arguments| ("SCMP_ACT_ALLOW".to_owned(), with_arguments);
    let filter = |names: &[&'static str]| builtin::filter(&names.iter().copied().collect(), HERE);
    let (plain, admin) = (filter(&[]), filter(&["CAP_SYS_ADMIN"]));
    for name in ["mount", "unshare", "setns", "bpf"] {
        assert_eq!(rules(&plain, name), [], "{name}");
        assert_eq!(rules(&admin, name), [allow(false)], "{name}");
    }
    assert_eq!(rules(&plain, "clone"), [allow(true)]);
    assert_eq!(
        rules(&plain, "clone3"),
        [("SCMP_ACT_ERRNO".to_owned(), false)]
    );
    assert_eq!(rules(&admin, "clone3"), [allow(false)]);
    for name in [
        "keyctl",
        "add_key",
        "io_uring_setup",
        "kexec_load",
        "userfaultfd",
    ] {
        assert_eq!(rules(&admin, name), [], "{name}");
    }
}

#[test]
fn includes_need_all_and_excludes_any() {
    let holds = |condition: &Value| {
        let rule = |key: &str| {
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ERRNO", key: condition }],
            })
        };
        let have = Names::from(["CAP_KILL"]);
        ["includes", "excludes"].map(|key| {
            let filter = profile::evaluate(&rule(key).to_string(), &have, HERE)
                .unwrap()
                .unwrap();
            !filter["syscalls"].as_array().unwrap().is_empty()
        })
    };
    for (condition, as_includes, as_excludes) in [
        (json!({}), true, true),
        (json!(null), true, true),
        (json!({ "caps": ["CAP_KILL"] }), true, false),
        (json!({ "caps": ["CAP_KILL", "CAP_BPF"] }), false, false),
        (json!({ "caps": ["CAP_BPF"] }), false, true),
        (json!({ "arches": ["arm64", "amd64"] }), true, false),
        (json!({ "arches": ["arm64"] }), false, true),
        (json!({ "minKernel": "6.1" }), true, false),
        (json!({ "minKernel": "6.2" }), false, true),
        (
            json!({ "caps": ["CAP_KILL"], "minKernel": "6.2" }),
            false,
            false,
        ),
    ] {
        assert_eq!(holds(&condition), [as_includes, as_excludes], "{condition}");
    }
}

#[test]
fn older_and_emptier_profiles_are_read() {
    let evaluate = |text: &str| profile::evaluate(text, &Names::new(), HERE).unwrap();
    for empty in ["{}", r#"{"defaultAction": "", "syscalls": null}"#] {
        assert_eq!(evaluate(empty), None);
    }
    let old = r#"{
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{"name": "read", "action": "SCMP_ACT_ERRNO", "args": []}]
    }"#;
    let expected = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ERRNO" }],
    });
    assert_eq!(evaluate(old), Some(expected));
}

#[test]
fn a_crooked_profile_is_refused_with_its_place() {
    for (text, said) in [
        ("{", "line 1"),
        (
            r#"{"syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW"}]}"#,
            "defaultAction",
        ),
        (r#"{"defaultAction": "ALLOW"}"#, "ALLOW"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]}"#,
            "`names`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]}"#,
            "both `name` and `names`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86"}]}"#,
            "both `architectures` and `archMap`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#,
            "listenerPath",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "x"}}]}"#,
            "`x`",
        ),
    ] {
        let error = profile::evaluate(text, &Names::new(), HERE).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn versions_are_read_from_releases() {
    for (text, expected) in [
        ("4.8", Some((4, 8))),
        ("6.18.44-fc-v669", Some((6, 18))),
        ("6.1-rc2", Some((6, 1))),
        ("6", None),
        ("x.y", None),
    ] {
        assert_eq!(version(text), expected, "{text}");
    }
}
