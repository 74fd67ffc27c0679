//! Debian's servers as a user who is not root, with logs to `/dev/stdout`: whoever calls, whatever the umask, wherever the
//! output goes.

use std::path::Path;

use serde_json::json;

use crate::caller::in_shell;
use crate::harness::ddock::{Ddock, output};
use crate::harness::image::ImageBuilder;
use crate::harness::terminal::Terminal;
use crate::harness::tree::Tree;
use crate::harness::user::User;

/// Words that each server writes when it is asked, or ready to be.
const LOGGED: [&str; 7] = [
    "\"GET /from-nginx HTTP/1.1\" 200",
    "apache: GET /page.txt HTTP/1.1 200",
    "GET /from-haproxy HTTP/1.1",
    "php: GET /from-php 200",
    "Ready to accept connections",
    "statement: select 3 + 4",
    "all answered",
];

/// Returns an image that has the servers' settings, and their programs once the host's `/usr` is mounted in it.
fn servers() -> ImageBuilder {
    let mut tree = Tree::new()
        .dir("usr/", 0o755)
        .dir("tmp/", 0o1777)
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0::/:/bin/sh\nweb:x:1001:1001::/tmp:/bin/sh\n",
        )
        .file("etc/group", 0o644, "root:x:0:\nweb:x:1001:\n");
    for name in ["bin", "sbin", "lib", "lib64"] {
        tree = tree.symlink(name, &format!("usr/{name}"));
    }
    for file in Path::new("tests/it/servers").read_dir().unwrap() {
        let file = file.unwrap();
        let name = format!("etc/servers/{}", file.file_name().to_str().unwrap());
        tree = tree.file(&name, 0o755, fs_err::read(file.path()).unwrap());
    }
    ImageBuilder::new()
        .layer(tree)
        .config("User", json!("web"))
        .config("Cmd", json!(["/etc/servers/all.sh"]))
}

/// Runs all servers once a way for the output to go, each with another umask.
fn serve(ddock: &Ddock, umasks: [&str; 4]) {
    let image = ddock.pull(servers());
    let args = |flags: &[&'static str]| {
        let fixed = ["--network", "none", "-v", "/usr:/usr:ro"];
        let mut args = [&["run"], flags, &fixed].concat();
        args.push(&image);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let shell = |umask: &str, line: &str, flags: &[&'static str]| {
        let args = args(flags);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        in_shell(ddock, &format!("umask {umask}; {line}"), &args)
    };
    let logged = |way: &str, text: &str| {
        for words in LOGGED {
            assert!(text.contains(words), "{way}: no `{words}` in {text}");
        }
    };
    let [pipe, file, detached, terminal] = umasks;
    let found = output(&mut shell(pipe, "\"$@\" 2>&1 | cat", &["--rm"])).exits(0);
    logged("a pipe", &found.stdout);
    let line = "file=$(mktemp); \"$@\" >$file 2>&1; cat $file; rm $file";
    let found = output(&mut shell(file, line, &["--rm"])).exits(0);
    logged("a file", &found.stdout);
    let id = output(&mut shell(detached, "\"$@\"", &["-d"]))
        .exits(0)
        .stdout;
    let id = id.trim_end();
    assert_eq!(
        ddock.ok(&["wait", id]),
        "0\n",
        "{}",
        ddock.run(&["logs", id]).text()
    );
    let found = ddock.run(&["logs", id]).exits(0);
    logged("-d", &(found.stdout + &found.stderr));
    let command = shell(terminal, "exec \"$@\"", &["--rm", "-t"]);
    let mut terminal = Terminal::start(&command, 24, 200);
    let screen = terminal.expect("all answered");
    assert_eq!(terminal.wait(), 0);
    logged("-t", &screen);
}

#[test]
fn servers_log_to_the_streams_for_root() {
    serve(&Ddock::new(), ["000", "027", "077", "027"]);
}

#[test]
fn servers_log_to_the_streams_for_an_ordinary_user() {
    serve(
        &Ddock::for_user(User::with_ranges()),
        ["027", "077", "000", "077"],
    );
}
