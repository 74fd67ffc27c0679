//! Many containers on one bridge.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::harness::ddock::Ddock;
use crate::harness::scratch::command_succeeds;
use crate::harness::wait_for;

const MANY: usize = 200;

/// Started at a time, each a client of its own.
const AT_ONCE: usize = 8;

/// Returns how many links the host has to containers.
fn links() -> usize {
    let links = command_succeeds(Command::new("ip").args(["-o", "link", "show", "type", "veth"]));
    links.lines().count()
}

#[test]
fn two_hundred_containers_on_one_bridge_have_addresses_reach_each_other_and_leave_nothing() {
    let (ddock, image) = Ddock::with_busybox();
    let names: Vec<String> = (0..MANY).map(|number| format!("box{number}")).collect();
    for names in names.chunks(AT_ONCE) {
        let clients = names.iter().map(|name| {
            let args = ["run", "-d", "--rm", "--name", name, &image, "sleep", "1000"];
            let mut command = ddock.command(&args);
            command.stdout(Stdio::null()).spawn().unwrap()
        });
        let clients: Vec<_> = clients.collect();
        for mut client in clients {
            assert!(client.wait().unwrap().success());
        }
    }
    assert_eq!(links(), MANY);
    let args: Vec<&str> = ["inspect"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    let documents: serde_json::Value =
        serde_json::from_str(&ddock.run(&args).exits(0).stdout).unwrap();
    let address = |document: &serde_json::Value| {
        let address = &document["NetworkSettings"]["IPAddress"];
        address.as_str().unwrap().to_owned()
    };
    let addresses: BTreeSet<String> = documents.as_array().unwrap().iter().map(address).collect();
    assert_eq!(addresses.len(), MANY);
    // One that is there beside them reaches them all.
    let script = "for address; do ping -c 1 -W 5 $address >/dev/null && echo pong; done";
    let addresses = addresses.iter().map(String::as_str);
    let ask = ["run", "--rm", &image, "sh", "-c", script, "sh"];
    let said = ddock.run(&ask.into_iter().chain(addresses).collect::<Vec<_>>());
    assert_eq!(said.exits(0).stdout, "pong\n".repeat(MANY));
    let remove = ["rm", "-f"].into_iter();
    ddock
        .run(
            &remove
                .chain(names.iter().map(String::as_str))
                .collect::<Vec<_>>(),
        )
        .exits(0);
    wait_for("the links to go", || (links() == 0).then_some(()));
}
