//! Tests of what configuration files say, each in a place of its own.

use super::*;
use std::path::PathBuf;
use tempfile::TempDir;

/// `/etc` and `~/.config` of a test.
struct Machine {
    directory: TempDir,
    flags: Flags,
}

impl Machine {
    fn with(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        Self {
            directory,
            flags: Flags::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn to(&self, reference: &str) -> Result<Vec<Route>> {
        let routes = Routes {
            flags: self.flags.clone(),
            places: Places {
                user: Some(self.path("config")),
                system: Some(self.path("etc")),
                registries_conf: None,
            },
        };
        routes.to(&reference.parse().unwrap())
    }

    /// Returns each way in short: `https://HOST/PATH/REPOSITORY`, and what is special about it.
    fn ways(&self, reference: &str) -> Vec<String> {
        let routes = self.to(reference).unwrap();
        let way = |route: &Route| {
            let scheme = match route.security {
                Security::Verified => "https",
                Security::Insecure => "insecure",
                Security::Plain => "http",
            };
            let (host, path, repository) = (&route.host, &route.path, &route.repository);
            let namespace = route.namespace.as_ref().map(|it| format!(" ns={it}"));
            let digests = if route.digests_only { " digests" } else { "" };
            let namespace = namespace.unwrap_or_default();
            format!("{scheme}://{host}{path}/{repository}{namespace}{digests}")
        };
        assert!(routes.iter().rev().skip(1).all(|route| route.is_mirror));
        assert!(!routes.last().unwrap().is_mirror);
        routes.iter().map(way).collect()
    }

    /// Returns why `reference` cannot be reached, with the test's directory left out.
    fn error(&self, reference: &str) -> String {
        let error = format!("{:#}", self.to(reference).unwrap_err());
        error.replace(&format!("{}/", self.directory.path().display()), "/")
    }
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn without_any_file_the_registry_itself_is_asked() {
    let machine = Machine::with(&[]);
    assert_eq!(
        machine.ways("ubuntu"),
        ["https://registry-1.docker.io/v2/library/ubuntu"]
    );
    assert_eq!(
        machine.ways("r.example:5000/a/b"),
        ["https://r.example:5000/v2/a/b"]
    );
}

#[test]
fn registries_conf_rewrites_mirrors_and_blocks() {
    let text = r#"
        unqualified-search-registries = ["docker.io"]
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example/hub/"
        [[registry.mirror]]
        location = "localhost:5000"
        insecure = true
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "tags.example"
        pull-from-mirror = "tag-only"
        [[registry]]
        prefix = "r.example/a"
        location = "inside.example/x/y"
        insecure = true
        [[registry]]
        prefix = "r.example"
        blocked = true
        [[registry]]
        prefix = "*.wild.example"
        location = "tame.example"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "m.example"
    "#;
    let machine = Machine::with(&[("etc/containers/registries.conf", text)]);
    let hub = [
        "https://mirror.example/v2/hub/library/ubuntu",
        "insecure://localhost:5000/v2/library/ubuntu digests",
        "https://tags.example/v2/library/ubuntu",
        "https://registry-1.docker.io/v2/library/ubuntu",
    ];
    assert_eq!(machine.ways("ubuntu:24.04"), hub);
    let by_digest = machine.ways(&format!("ubuntu@{DIGEST}"));
    assert_eq!(by_digest, [hub[0], hub[1], hub[3]]);
    assert_eq!(
        machine.ways("r.example/a/b:1"),
        ["insecure://inside.example/v2/x/y/b"]
    );
    assert_eq!(
        machine.ways("r.example/a:1"),
        ["insecure://inside.example/v2/x/y"]
    );
    assert_eq!(
        machine.error("r.example/ab"),
        "`r.example` is blocked by /etc/containers/registries.conf"
    );
    assert_eq!(
        machine.ways("r.example:5000/ab"),
        ["https://r.example:5000/v2/ab"]
    );
    assert_eq!(
        machine.ways("x.wild.example/a/b"),
        [
            "https://m.example/v2/a/b digests",
            "https://tame.example/v2/a/b"
        ]
    );
}

#[test]
fn the_users_registries_conf_counts_before_the_machines() {
    let to = |host: &str| format!("[[registry]]\nprefix = \"r.example\"\nlocation = \"{host}\"\n");
    let texts = [to("machine"), to("drop-in"), to("own-drop-in"), to("own")];
    let files = [
        ("etc/containers/registries.conf", &*texts[0]),
        ("etc/containers/registries.conf.d/1.conf", &*texts[1]),
        ("config/containers/registries.conf.d/1.conf", &*texts[2]),
        ("config/containers/registries.conf", &*texts[3]),
        ("config/containers/registries.conf.d/README", "nonsense"),
    ];
    for (count, expected) in [(1, "machine"), (2, "drop-in"), (3, "own-drop-in")] {
        let ways = Machine::with(&files[..count]).ways("r.example/a");
        assert_eq!(ways, [format!("https://{expected}/v2/a")]);
    }
    // The machine's are not read at all then.
    let own = [files[0], files[1], files[3], files[4]];
    assert_eq!(
        Machine::with(&own).ways("r.example/a"),
        ["https://own/v2/a"]
    );
}

#[test]
fn hosts_toml_names_hosts_in_order() {
    let text = r#"
        server = "https://origin.example"
        [host."https://z.example"]
        capabilities = ["pull"]
        ca = "/ca.crt"
        [host."http://a.example:5000/prefix"]
        capabilities = ["pull", "resolve"]
        client = [["me.cert", "me.key"]]
        [host."http://a.example:5000/prefix".header]
        x-tenant = ["one", "two"]
        [host."https://b.example/v2/proj"]
        override_path = true
        skip_verify = true
        [host."https://push.example"]
        capabilities = ["push"]
    "#;
    let file = "etc/containerd/certs.d/r.example/hosts.toml";
    let machine = Machine::with(&[(file, text)]);
    assert_eq!(
        machine.ways("r.example/a/b"),
        [
            "https://z.example/v2/a/b ns=r.example digests",
            "http://a.example:5000/prefix/v2/a/b ns=r.example",
            "insecure://b.example/v2/proj/a/b ns=r.example",
            "https://origin.example/v2/a/b ns=r.example",
        ]
    );
    let routes = machine.to("r.example/a/b").unwrap();
    assert_eq!(routes[0].files.roots, [PathBuf::from("/ca.crt")]);
    assert_eq!(routes[1].headers.get_all("x-tenant").iter().count(), 2);
    let beside = |name: &str| machine.path("etc/containerd/certs.d/r.example").join(name);
    assert_eq!(
        routes[1].files.client,
        Some((beside("me.cert"), Some(beside("me.key"))))
    );
    let default = Machine::with(&[(
        "etc/containerd/certs.d/_default/hosts.toml",
        "[host.\"https://m.example\"]\n",
    )]);
    assert_eq!(
        default.ways("other.example/a"),
        [
            "https://m.example/v2/a ns=other.example",
            "https://other.example/v2/a"
        ]
    );
}

#[test]
fn daemon_json_has_mirrors_of_the_hub_and_insecure_registries() {
    let text = r#"{"registry-mirrors": ["https://m.example/"], "debug": true,
        "insecure-registries": ["r.example:5000", "10.0.0.0/8", "m.example"]}"#;
    let machine = Machine::with(&[("etc/docker/daemon.json", text)]);
    assert_eq!(
        machine.ways("ubuntu"),
        [
            "insecure://m.example/v2/library/ubuntu",
            "https://registry-1.docker.io/v2/library/ubuntu"
        ]
    );
    assert_eq!(
        machine.ways("r.example:5000/a"),
        ["insecure://r.example:5000/v2/a"]
    );
    assert_eq!(machine.ways("r.example/a"), ["https://r.example/v2/a"]);
    assert_eq!(
        machine.ways("10.1.2.3:80/a"),
        ["insecure://10.1.2.3:80/v2/a"]
    );
}

#[test]
fn the_first_source_with_mirrors_has_its_way() {
    let mut machine = Machine::with(&[
        (
            "etc/docker/daemon.json",
            r#"{"registry-mirrors": ["https://docker.example"]}"#,
        ),
        (
            "etc/containerd/certs.d/docker.io/hosts.toml",
            "[host.\"https://containerd.example\"]\n",
        ),
        (
            "etc/containers/registries.conf",
            "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"podman.example\"\n",
        ),
    ]);
    let first = |machine: &Machine| machine.to("ubuntu").unwrap()[0].host.clone();
    machine.flags.mirrors = vec!["docker.io=https://flag.example".parse().unwrap()];
    assert_eq!(first(&machine), "flag.example");
    machine.flags.mirrors.clear();
    assert_eq!(first(&machine), "podman.example");
    fs_err::remove_file(machine.path("etc/containers/registries.conf")).unwrap();
    assert_eq!(first(&machine), "containerd.example");
    fs_err::remove_file(machine.path("etc/containerd/certs.d/docker.io/hosts.toml")).unwrap();
    assert_eq!(first(&machine), "docker.example");
}

/// Files that are refused: which, its text, and how the error begins.
const MALFORMED: [(&str, &str, &str); 10] = [
    (
        CONF,
        "[[registry]]\nprefix =\n",
        "/etc/containers/registries.conf line 2: ",
    ),
    (
        CONF,
        "\n[[registry]]\ninsecure = 7\n",
        "/etc/containers/registries.conf line 3: invalid type: integer `7`, expected a boolean",
    ),
    (
        CONF,
        "[[registry]]\ninsecure = true\n",
        "/etc/containers/registries.conf: a `[[registry]]` has neither",
    ),
    (
        CONF,
        "[[registry]]\nprefix = \"*x\"\n",
        "/etc/containers/registries.conf: the prefix `*x` is no `*.DOMAIN`",
    ),
    (
        CONF,
        "[[registry]]\nprefix = \"r.example\"\nlocation = \"https://x\"\n",
        "/etc/containers/registries.conf: `location` is HOST[:PORT][/PATH], without a scheme",
    ),
    (
        CONF,
        "[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\npull-from-mirror = \"no\"\n",
        "/etc/containers/registries.conf line 4: unknown variant `no`",
    ),
    (
        HOSTS,
        "server = \n",
        "/etc/containerd/certs.d/r.example/hosts.toml line 1: ",
    ),
    (
        HOSTS,
        "[host.\"https://u:secret@h\"]\n",
        "/etc/containerd/certs.d/r.example/hosts.toml: host `h`: a user name has no place",
    ),
    (
        "etc/docker/daemon.json",
        "{\n,",
        "/etc/docker/daemon.json: ",
    ),
    (
        "etc/docker/daemon.json",
        r#"{"registry-mirrors":["ftp://x"]}"#,
        "/etc/docker/daemon.json: neither http nor https",
    ),
];

const CONF: &str = "etc/containers/registries.conf";
const HOSTS: &str = "etc/containerd/certs.d/r.example/hosts.toml";

#[test]
fn a_malformed_file_is_named_with_its_line() {
    for (file, text, expected) in MALFORMED {
        let error = Machine::with(&[(file, text)]).error("r.example/a");
        assert!(error.starts_with(expected), "{text:?}: {error}");
        assert!(
            !error.contains("secret") && !error.contains('\n'),
            "{error}"
        );
    }
}

#[test]
fn flags_are_read_strictly() {
    for bad in [
        "m.example",
        "r.example/a=m",
        "r=ftp://m",
        "r=https://u:p@m",
        "=",
        "r=https://",
    ] {
        assert!(bad.parse::<Mirror>().is_err(), "{bad}");
    }
    for bad in ["", "a/b", "10.0.0.0/40"] {
        assert!(bad.parse::<Insecure>().is_err(), "{bad}");
    }
    let mut machine = Machine::with(&[]);
    machine.flags.mirrors = vec!["docker.io=http://m.example/sub".parse().unwrap()];
    machine.flags.skip_verify = true;
    assert_eq!(
        machine.ways("ubuntu"),
        [
            "http://m.example/sub/v2/library/ubuntu ns=docker.io",
            "insecure://registry-1.docker.io/v2/library/ubuntu"
        ]
    );
    machine.flags = Flags {
        insecure: vec!["docker.io".parse().unwrap(), "10.1.0.0/16".parse().unwrap()],
        ..Flags::default()
    };
    assert_eq!(
        machine.ways("ubuntu"),
        ["insecure://registry-1.docker.io/v2/library/ubuntu"]
    );
    assert_eq!(machine.ways("10.1.0.1/a"), ["insecure://10.1.0.1/v2/a"]);
    assert_eq!(machine.ways("10.2.0.1/a"), ["https://10.2.0.1/v2/a"]);
}
