//! Images that say or hold little: no entrypoint but an empty word, no layers.

use serde_json::json;

use crate::harness::ddock::Ddock;
use crate::harness::image::busybox;

#[test]
fn an_empty_entrypoint_is_none() {
    let ddock = Ddock::new();
    for entrypoint in [json!([""]), json!(""), json!([])] {
        let image = busybox()
            .config("Entrypoint", entrypoint.clone())
            .config("Cmd", json!(["echo", "from the image"]));
        let image = ddock.pull(image);
        assert_eq!(
            ddock.ok(&["run", "--rm", &image]),
            "from the image\n",
            "{entrypoint}"
        );
        assert_eq!(
            ddock.ok(&["run", "--rm", &image, "echo", "x"]),
            "x\n",
            "{entrypoint}"
        );
        let nothing = busybox()
            .config("Entrypoint", entrypoint)
            .config("Cmd", json!(null));
        let nothing = ddock.pull(nothing);
        let refused = ddock.run(&["run", "--rm", &nothing]).exits(125);
        refused.says("no command specified");
    }
}
