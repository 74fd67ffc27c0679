//! What of a profile holds for whom, and profiles that are refused.

use super::*;

fn default(capabilities: &[&'static str], kernel: (u32, u32)) -> Value {
    let capabilities = capabilities.iter().copied().collect();
    evaluate(DEFAULT, &capabilities, kernel).unwrap()
}

/// Returns the actions of the rules for `name`, and whether they look at arguments.
fn rules(filter: &Value, name: &str) -> Vec<(String, bool)> {
    let rules = filter["syscalls"].as_array().unwrap().iter();
    rules
        .filter(|rule| {
            rule["names"]
                .as_array()
                .unwrap()
                .iter()
                .any(|found| found == name)
        })
        .map(|rule| {
            (
                rule["action"].as_str().unwrap().to_owned(),
                rule.get("args").is_some(),
            )
        })
        .collect()
}

#[test]
fn capabilities_widen_the_default() {
    let allow = |with_arguments| ("SCMP_ACT_ALLOW".to_owned(), with_arguments);
    let (plain, admin) = (default(&[], (6, 1)), default(&["CAP_SYS_ADMIN"], (6, 1)));
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
    assert_eq!(rules(&plain, "read"), [allow(false)]);
    for name in ["keyctl", "io_uring_setup", "kexec_load", "userfaultfd"] {
        assert_eq!(rules(&admin, name), [], "{name}");
    }
}

#[test]
fn an_old_kernel_may_not_trace() {
    assert_eq!(rules(&default(&[], (4, 7)), "ptrace"), []);
    assert_eq!(rules(&default(&[], (4, 8)), "ptrace").len(), 1);
}

#[test]
fn a_crooked_profile_is_refused_with_its_place() {
    for (text, said) in [
        ("{", "line 1"),
        (r#"{"syscalls": []}"#, "defaultAction"),
        (r#"{"defaultAction": "ALLOW"}"#, "ALLOW"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]}"#,
            "`names`",
        ),
    ] {
        let error = format!("{:#}", evaluate(text, &Names::new(), (6, 1)).unwrap_err());
        assert!(error.contains(said), "{text}: {error}");
    }
}
