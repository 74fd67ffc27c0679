//! What a spec may ask for that the runtime does not carry out.

use super::*;

#[test]
fn what_the_runtime_does_not_know_it_refuses() {
    let spec = built(&image(), &request(), &host()).unwrap();
    assert!(Plan::parse(&spec.to_string()).is_ok());
    for (object, field) in [
        ("", "hooks"),
        ("/process", "apparmorProfile"),
        ("/linux", "intelRdt"),
        ("/linux/resources", "hugepageLimits"),
        ("/linux/seccomp", "listenerPath"),
        ("/mounts/0", "uidMappings"),
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
