//! Another host on the network of the test's own: a network namespace at the other end of a pair of links.

use std::process::{Child, Command, Stdio};

use crate::harness::ddock::{Output, output};
use crate::harness::scratch::command_succeeds;
use crate::harness::{network, wait_for};

/// A host beside this one; documentation addresses (RFC 5737, RFC 3849), so that nobody else is meant.
pub(crate) struct Neighbour {
    process: Child,
}

impl Neighbour {
    /// This host's address, as the neighbour knows it.
    pub(crate) const HOST: &str = "192.0.2.1";
    pub(crate) const HOST6: &str = "2001:db8::1";
    pub(crate) const ADDRESS: &str = "192.0.2.2";
    pub(crate) const ADDRESS6: &str = "2001:db8::2";

    /// Connects a neighbour to this test's own network, as its way to everywhere.
    pub(crate) fn connect() -> Neighbour {
        network::enter_own();
        let own = namespace("thread-self");
        let process = Command::new("unshare")
            .args(["--net", "--kill-child", "sleep", "1000000"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let neighbour = Neighbour { process };
        let pid = neighbour.process.id().to_string();
        wait_for("the neighbour's network", || {
            (namespace(&pid)? != own.clone()?).then_some(())
        });
        let script = format!(
            "ip link add up0 type veth peer name eth0 netns {pid}
             ip link set up0 up
             ip address add {}/24 dev up0
             ip -6 address add {}/64 dev up0 nodad",
            Neighbour::HOST,
            Neighbour::HOST6
        );
        command_succeeds(Command::new("sh").args(["-ec", &script]));
        let script = format!(
            "ip link set lo up
             ip link set eth0 up
             ip address add {}/24 dev eth0
             ip -6 address add {}/64 dev eth0 nodad",
            Neighbour::ADDRESS,
            Neighbour::ADDRESS6
        );
        neighbour.sh(&script).exits(0);
        let script = format!(
            "ip route add default via {}; ip -6 route add default via {}",
            Neighbour::ADDRESS,
            Neighbour::ADDRESS6
        );
        command_succeeds(Command::new("sh").args(["-ec", &script]));
        neighbour
    }

    /// Returns a command of the neighbour's.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.process.id().to_string(), "-n", "--", program]);
        command
    }

    /// Runs a script on the neighbour.
    pub(crate) fn sh(&self, script: &str) -> Output {
        output(self.command("sh").args(["-ec", script]))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn namespace(process: &str) -> Option<std::path::PathBuf> {
    fs_err::read_link(format!("/proc/{process}/ns/net")).ok()
}
