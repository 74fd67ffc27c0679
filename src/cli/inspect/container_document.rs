//! A container as `docker inspect` describes it.

use crate::cli::networks::{endpoint_id, predefined_id};
use crate::container::{Origin, Record, Status};
use crate::network::{Attachment, format_mac};
use crate::options::{Driver, Log};
use crate::spec::MountPoint;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

/// When it has not happened (Go's zero time, which scripts compare with).
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Returns Docker's description of a container (Engine API, `ContainerInspect`), in Docker's order; a directory that is
/// there instead of an image is `Rootfs`, as podman has it.
pub(crate) fn describe(record: &Record) -> Value {
    let (image, image_name, rootfs) = match &record.origin {
        Origin::Image { image, image_name } => (image.to_string(), image_name.as_str(), None),
        Origin::Directory { rootfs } => (String::new(), "", Some(rootfs)),
        Origin::Unknown {} => (String::new(), "", None),
    };
    let mut document = json!({
        "Id": record.id,
        "Created": time(record.created),
        "Path": record.command.first(),
        "Args": record.command.get(1..).unwrap_or_default(),
        "State": state(&record.status),
        "Image": image,
        "Name": format!("/{}", record.name),
        "HostConfig": {
            "AutoRemove": record.auto_remove,
            "LogConfig": log(&record.log),
            "Annotations": record.annotations,
        },
        "Config": {
            "Image": image_name,
            "Labels": record.labels,
            "StopSignal": record.stop.signal.as_deref().unwrap_or("SIGTERM"),
            "StopTimeout": record.stop.timeout,
        },
        "NetworkSettings": networks(&record.id, &record.networks),
        "Mounts": record.mounts.iter().map(mount).collect::<Vec<_>>(),
    });
    if let Some(rootfs) = rootfs {
        document["Rootfs"] = json!(rootfs);
    }
    document
}

fn log(log: &Log) -> Value {
    let mut options = serde_json::Map::new();
    if let Some(size) = log.rotation.max_size {
        options.insert(
            "max-file".to_owned(),
            log.rotation.max_files.to_string().into(),
        );
        options.insert("max-size".to_owned(), size.to_string().into());
    }
    let driver = match log.driver {
        Driver::JsonFile => "json-file",
        Driver::Local => "local",
        Driver::None => "none",
    };
    json!({"Type": driver, "Config": options})
}

fn mount(mount: &MountPoint) -> Value {
    let mut document = json!({ "Type": mount.kind });
    if let Some(volume) = &mount.volume {
        document["Name"] = json!(volume);
    }
    document["Source"] = json!(mount.source);
    document["Destination"] = json!(mount.target);
    if mount.volume.is_some() {
        document["Driver"] = json!("local");
    }
    document["Mode"] = json!(mount.mode);
    document["RW"] = json!(!mount.read_only);
    document["Propagation"] = json!(mount.propagation);
    document
}

/// The addresses of the way out are there twice, as scripts look for them in either place.
fn networks(container: &str, attachments: &[Attachment]) -> Value {
    let describe = |attachment: &Attachment| {
        let v6 = attachment.address6;
        let network = match attachment.network_id.as_str() {
            "" => predefined_id(&attachment.network),
            id => id.to_owned(),
        };
        // What leads nowhere has no way there.
        let leads = !attachment.internal;
        let gateway = leads.then(|| attachment.gateway.to_string());
        let gateway6 = attachment.gateway6.filter(|_| leads);
        json!({
            "Aliases": attachment.aliases,
            "MacAddress": format_mac(attachment.mac),
            "NetworkID": network,
            "EndpointID": endpoint_id(&network, container),
            "Gateway": gateway.unwrap_or_default(),
            "IPAddress": attachment.address.addr().to_string(),
            "IPPrefixLen": attachment.address.prefix_len(),
            "IPv6Gateway": gateway6.map(|it| it.to_string()).unwrap_or_default(),
            "GlobalIPv6Address": v6.map(|it| it.addr().to_string()).unwrap_or_default(),
            "GlobalIPv6PrefixLen": v6.map_or(0, |it| it.prefix_len()),
        })
    };
    let way_out = attachments.iter().find(|it| !it.internal);
    let first = way_out.or(attachments.first()).map(describe);
    let field = |name: &str| first.as_ref().map_or(json!(""), |it| it[name].clone());
    let all = attachments.iter();
    let all = all.map(|it| (it.network.clone(), describe(it)));
    json!({
        "IPAddress": field("IPAddress"),
        "Gateway": field("Gateway"),
        "MacAddress": field("MacAddress"),
        "Networks": all.collect::<serde_json::Map<_, _>>(),
    })
}

fn state(status: &Status) -> Value {
    let state = |word: &str, pid: u32, code: u8, killed: bool, started: &str, finished: &str| {
        json!({
            "Status": word,
            "Running": word == "running",
            "Paused": false,
            "Restarting": false,
            "OOMKilled": killed,
            "Dead": word == "dead",
            "Pid": pid,
            "ExitCode": code,
            "Error": "",
            "StartedAt": started,
            "FinishedAt": finished,
        })
    };
    match status {
        Status::Unknown => state("dead", 0, 0, false, NEVER, NEVER),
        Status::Starting | Status::Created => state("created", 0, 0, false, NEVER, NEVER),
        Status::Running { pid, started, .. } => {
            state("running", *pid, 0, false, &time(*started), NEVER)
        }
        Status::Exited {
            code,
            out_of_memory,
            finished,
        } => state("exited", 0, *code, *out_of_memory, NEVER, &time(*finished)),
    }
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::options::{Rotation, Stop};
    use std::collections::BTreeMap;

    fn record() -> Record {
        Record {
            id: "ab".repeat(32),
            name: "box".to_owned(),
            options: None,
            holds: None,
            volumes: Vec::new(),
            origin: Origin::Image {
                image: Digest::of(b"config"),
                image_name: "ubuntu".to_owned(),
            },
            command: vec!["sh".to_owned(), "-c".to_owned(), "exit 3".to_owned()],
            created: "2026-01-01T00:00:00Z".parse().unwrap(),
            auto_remove: false,
            labels: [("a".to_owned(), "1".to_owned())].into(),
            annotations: BTreeMap::new(),
            stop: Stop {
                signal: Some("USR1".to_owned()),
                timeout: Some(3),
            },
            log: Log {
                driver: Driver::Local,
                rotation: Rotation {
                    max_size: Some(1 << 20),
                    max_files: 5,
                },
            },
            mounts: vec![MountPoint {
                kind: "volume".to_owned(),
                volume: Some("data".parse().unwrap()),
                source: "/v/data/_data".into(),
                target: "/d".into(),
                mode: "z".to_owned(),
                read_only: false,
                propagation: String::new(),
                idmap: None,
                covered: None,
            }],
            networks: Vec::new(),
            holds_switch: false,
            ports: Vec::new(),
            exposed: Vec::new(),
            status: Status::Exited {
                code: 3,
                out_of_memory: false,
                finished: "2026-01-01T00:00:01Z".parse().unwrap(),
            },
        }
    }

    #[test]
    fn a_directory_instead_of_an_image_is_named_as_podman_names_it() {
        let origin = Origin::Directory {
            rootfs: "/srv/root".into(),
        };
        let document = describe(&Record { origin, ..record() });
        let field = |pointer: &str| document.pointer(pointer).unwrap().as_str().unwrap();
        assert_eq!(field("/Image"), "");
        assert_eq!(field("/Config/Image"), "");
        assert_eq!(field("/Rootfs"), "/srv/root");
    }

    #[test]
    fn the_state_is_dockers() {
        let record = record();
        let document = describe(&record);
        let field = |pointer: &str| document.pointer(pointer).unwrap().to_string();
        for (pointer, value) in [
            ("/Name", "\"/box\""),
            ("/Path", "\"sh\""),
            ("/Args/1", "\"exit 3\""),
            ("/State/Status", "\"exited\""),
            ("/State/Running", "false"),
            ("/State/ExitCode", "3"),
            ("/State/FinishedAt", "\"2026-01-01T00:00:01Z\""),
            ("/Config/Image", "\"ubuntu\""),
            ("/Config/Labels/a", "\"1\""),
            ("/Config/StopSignal", "\"USR1\""),
            ("/Config/StopTimeout", "3"),
            ("/HostConfig/LogConfig/Type", "\"local\""),
            ("/HostConfig/LogConfig/Config/max-file", "\"5\""),
            (
                "/Mounts/0",
                r#"{"Type":"volume","Name":"data","Source":"/v/data/_data","Destination":"/d","Driver":"local","Mode":"z","RW":true,"Propagation":""}"#,
            ),
        ] {
            assert_eq!(field(pointer), value, "{pointer}");
        }
    }
}
