//! Docker and podman from Debian's packages, each with a store of its own, to ask what they would do.

use crate::harness::ddock::output;
use crate::harness::scratch::{Scratch, command_succeeds};
use crate::harness::wait_for;
use std::process::{Child, Command, Stdio};

/// What ddock is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker,
    Podman,
    /// Given our own bundles.
    Runc,
}

/// One of them, at work.
pub(crate) struct Peer {
    /// Goes last, with what is mounted in it.
    scratch: Scratch,
    pub(crate) kind: Kind,
    /// The words that every call begins with.
    program: Vec<String>,
    daemon: Option<Child>,
}

impl Peer {
    /// Starts a Docker daemon that leaves the host's network alone, and any other daemon's containers.
    pub(crate) fn docker() -> Peer {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.join(name).display().to_string();
        let socket = format!("unix://{}", path("socket"));
        let log = fs_err::File::create(scratch.join("log"))
            .unwrap()
            .into_file();
        // A test that is killed takes its daemon along.
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "/usr/sbin/dockerd"])
            .args(["--bridge=none", "--ip-forward=false"])
            .args(["--iptables=false", "--ip6tables=false"])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid"), "--host", &socket])
            .args([
                "--config-file",
                &scratch.file("daemon.json", "{}").display().to_string(),
            ])
            .args(["--containerd-namespace", &name_of(&scratch)])
            .args(["--cgroup-parent", &format!("/{}/docker", name_of(&scratch))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv is installed");
        let docker = Peer {
            program: ["/usr/bin/docker", "--host", &socket]
                .map(str::to_owned)
                .into(),
            kind: Kind::Docker,
            scratch,
            daemon: Some(daemon),
        };
        wait_for("dockerd to answer", || {
            (output(&mut docker.command(&["version"])).code == 0).then_some(())
        });
        docker
    }

    /// Returns podman as it runs containers with runc, which takes this machine's cgroups.
    pub(crate) fn podman() -> Peer {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.join(name).display().to_string();
        // Its own default limits are above what a root without CAP_SYS_RESOURCE can have.
        let configuration = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
            [engine]\nevents_logger = \"none\"\n";
        scratch.file("containers.conf", configuration);
        let words = [
            "/usr/bin/podman",
            "--root",
            &path("root"),
            "--runroot",
            &path("run"),
            "--tmpdir",
            &path("tmp"),
        ];
        let further = [
            "--runtime",
            "runc",
            "--cgroup-manager",
            "cgroupfs",
            "--storage-driver",
            "overlay",
            "--log-level",
            "error",
        ];
        Peer {
            program: words
                .into_iter()
                .chain(further)
                .map(str::to_owned)
                .collect(),
            kind: Kind::Podman,
            scratch,
            daemon: None,
        }
    }

    /// Returns the command, with an environment that holds nothing but what is named here.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let (program, first) = self.program.split_first().unwrap();
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.scratch.path());
        command.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        command.args(first).stdin(Stdio::null());
        if self.kind == Kind::Podman {
            command.env("CONTAINERS_CONF", self.scratch.join("containers.conf"));
        }
        match args {
            // Where it is said later too, that holds.
            ["run", rest @ ..] if self.kind == Kind::Podman => {
                let parent = format!("/{}/podman", self.parent());
                command.args(["run", "--cgroup-parent", &parent]).args(rest)
            }
            args => command.args(args),
        };
        command
    }

    /// Returns the name of the cgroup that all containers of this one are in.
    fn parent(&self) -> String {
        name_of(&self.scratch)
    }

    /// Takes an image from a registry on loopback.
    pub(crate) fn pull(&self, reference: &str) {
        let insecure: &[&str] = match self.kind {
            Kind::Podman => &["--tls-verify=false"],
            _ => &[],
        };
        command_succeeds(&mut self.command(&[&["pull", "-q"], insecure, &[reference]].concat()));
    }
}

fn name_of(scratch: &Scratch) -> String {
    scratch
        .path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.kind == Kind::Podman {
            drop(self.command(&["rm", "-f", "-a"]).output());
        }
        if let Some(daemon) = &mut self.daemon {
            // Asked to end, it ends its containers and their mounts.
            let pid = daemon.id().to_string();
            drop(Command::new("kill").arg(pid).status());
            drop(daemon.wait());
        }
        remove_cgroup(&self.parent());
    }
}

/// Removes a cgroup from every hierarchy, when the last process in it has ended.
pub(crate) fn remove_cgroup(name: &str) {
    let within = format!("*/{name}/*");
    let find = || {
        let mut find = Command::new("find");
        find.args([
            "/sys/fs/cgroup",
            "-depth",
            "-type",
            "d",
            "(",
            "-name",
            name,
            "-o",
            "-path",
            &within,
            ")",
            "-print",
        ]);
        find
    };
    let end = std::time::Instant::now() + super::DEADLINE;
    while std::time::Instant::now() < end {
        let found = find()
            .args(["-exec", "rmdir", "{}", ";"])
            .stderr(Stdio::null())
            .output();
        if found.is_ok_and(|found| found.stdout.is_empty()) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
