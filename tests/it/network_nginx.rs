//! The distribution's own nginx in a container: published, in a network with a client, as root and as an ordinary user.

use std::process::Command;

use crate::harness::ddock::{Ddock, output};
use crate::harness::image::{ImageBuilder, busybox};
use crate::harness::neighbour::Neighbour;
use crate::harness::scratch::command_succeeds;
use crate::harness::tree::Tree;
use crate::harness::user::User;
use crate::harness::wait_for;
use crate::network_rootless::open_tun;
use serde_json::json;

const WELCOME: &str = "Welcome to nginx!";

/// Returns an image with nginx as its package has it, its libraries, and logs that are the container's output.
fn nginx() -> ImageBuilder {
    let program = "/usr/sbin/nginx";
    let mut tree = Tree::new();
    let libraries = command_succeeds(Command::new("ldd").arg(program));
    let libraries = libraries
        .split_whitespace()
        .filter(|it| it.starts_with('/'));
    let files = [program, "/etc/nginx/mime.types", "/etc/nginx/nginx.conf"];
    let site = "/etc/nginx/sites-enabled/default";
    let page = "/var/www/html/index.nginx-debian.html";
    let accounts = ["/etc/passwd", "/etc/group"];
    let all = files.into_iter().chain([site, page]).chain(accounts);
    for path in all.chain(libraries) {
        // The program, and what loads its libraries, is executed; for the others it does not matter.
        tree = tree.file(&path[1..], 0o755, fs_err::read(path).unwrap());
    }
    for directory in ["run/", "var/log/nginx/", "var/lib/nginx/"] {
        tree = tree.dir(directory, 0o755);
    }
    for (log, stream) in [("access", "stdout"), ("error", "stderr")] {
        tree = tree.symlink(
            &format!("var/log/nginx/{log}.log"),
            &format!("/dev/{stream}"),
        );
    }
    busybox()
        .layer(tree)
        .config("Cmd", json!(["nginx", "-g", "daemon off;"]))
        .config("ExposedPorts", json!({"80/tcp": {}}))
}

/// Serves in a network, published at port 8080, and asks for the page from everywhere.
fn serve(ddock: &Ddock, neighbour: &Neighbour) {
    let image = ddock.pull(nginx());
    ddock.ok(&["network", "create", "shop"]);
    let flags = ["--name", "web", "--network", "shop", "-p", "8080:80"];
    ddock.ok(&[&["run", "-d"][..], &flags, &[&image]].concat());
    let page = |url: &str| {
        let args = ["-sS", "--max-time", "10", url];
        let said = output(Command::new("curl").args(args));
        said.stdout.contains(WELCOME).then_some(())
    };
    wait_for("nginx", || page("http://127.0.0.1:8080/"));
    let url = format!("http://{}:8080/", Neighbour::HOST);
    let asked = neighbour.sh(&format!("curl -sS --max-time 10 {url}"));
    assert!(asked.stdout.contains(WELCOME), "{}", asked.text());
    let by_name = "wget -q -O - http://web/ http://web.shop/ | grep -c '<h1>'";
    let said = ddock.sh(&["--network", "shop"], &image, by_name);
    assert_eq!(said, "2\n");
    // It saw who asked.
    let logs = ddock.ok(&["logs", "web"]);
    let line = format!("{} - - [", Neighbour::ADDRESS);
    assert!(logs.lines().any(|it| it.starts_with(&line)), "{logs}");
    assert_eq!(
        ddock.ok(&["port", "web"]),
        "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n"
    );
    ddock.ok(&["rm", "-f", "web"]);
    ddock.ok(&["network", "rm", "shop"]);
    wait_for("the port to be free", || {
        let listening = command_succeeds(Command::new("ss").arg("-ltn"));
        (!listening.contains(":8080 ")).then_some(())
    });
}

#[test]
fn nginx_serves_the_neighbour_the_host_and_containers_of_its_network() {
    let neighbour = Neighbour::connect();
    serve(&Ddock::new(), &neighbour);
    wait_for("the links to go", || {
        let left = command_succeeds(Command::new("ip").args(["-o", "link"]));
        (!left.contains("ddock")).then_some(())
    });
    assert_eq!(
        command_succeeds(Command::new("nft").args(["list", "ruleset"])),
        ""
    );
}

#[test]
fn an_ordinary_users_nginx_does_so_too() {
    open_tun();
    let neighbour = Neighbour::connect();
    serve(&Ddock::for_user(User::with_ranges()), &neighbour);
}
