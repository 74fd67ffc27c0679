//! What a spec may ask for that the runtime refuses.

use crate::options::ContainerOptions;
use crate::runtime::Plan;
use crate::spec::tests::{built, host, image};
use serde_json::json;

#[test]
fn what_the_runtime_does_not_know_it_refuses() {
    let spec = built(&image(), ContainerOptions::default(), &host()).unwrap();
    assert!(Plan::parse(&spec.to_string()).is_ok());
    for (object, field) in [
        ("", "hooks"),
        ("/process", "selinuxLabel"),
        ("/linux", "intelRdt"),
        ("/linux/resources", "hugepageLimits"),
        ("/linux/seccomp", "listenerPath"),
        ("/linux", "uidMappings"),
        ("/mounts/0", "label"),
    ] {
        let mut spec = spec.clone();
        spec.pointer_mut(object).unwrap()[field] = json!([]);
        let error = format!("{:#}", Plan::parse(&spec.to_string()).unwrap_err());
        assert!(
            error.contains(&format!("unknown field `{field}`")),
            "{error}"
        );
    }
}

#[test]
fn owners_are_mapped_of_binds_alone_and_both_kinds() {
    let spec = built(&image(), ContainerOptions::default(), &host()).unwrap();
    let ids = json!([{"containerID": 7, "hostID": 0, "size": 1}]);
    for (options, users, groups, error) in [
        (
            "idmap",
            None,
            None,
            "needs both uidMappings and gidMappings",
        ),
        (
            "rw",
            Some(&ids),
            None,
            "needs both uidMappings and gidMappings",
        ),
        ("rw", Some(&ids), Some(&ids), "only binds can"),
    ] {
        let mut spec = spec.clone();
        let mount = spec.pointer_mut("/mounts/0").unwrap();
        mount["options"] = json!([options]);
        for (field, ids) in [("uidMappings", users), ("gidMappings", groups)] {
            if let Some(ids) = ids {
                mount[field] = ids.clone();
            }
        }
        let refused = format!("{:#}", Plan::parse(&spec.to_string()).unwrap_err());
        assert!(refused.ends_with(error), "{refused}");
    }
}
