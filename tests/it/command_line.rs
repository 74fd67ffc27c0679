//! Every command of Docker's and of podman's is known by both its spellings: it is there, it is to come, or something else does its work.

use std::process::Command;

use crate::harness::ddock::{Ddock, output};

/// Returns the commands that a program's help lists after `words`.
fn commands(program: &str, words: &[&str]) -> Vec<String> {
    let help = output(Command::new(program).args(words).arg("--help"));
    let mut is_list = false;
    let mut names = Vec::new();
    for line in help.stdout.lines() {
        if !line.starts_with(' ') {
            is_list = line.to_lowercase().ends_with("commands:");
        } else if is_list && let Some(name) = line.split_whitespace().next() {
            // Docker marks what a plugin does.
            names.push(name.trim_end_matches('*').to_owned());
        }
    }
    names.retain(|name| name != "help");
    names
}

#[test]
fn every_command_of_docker_and_podman_is_known() {
    let ddock = Ddock::new();
    let mut unknown = Vec::new();
    for program in ["docker", "podman"] {
        let top = commands(program, &[]);
        assert!(top.len() > 30, "{program} has only {top:?}");
        for first in &top {
            let below = commands(program, &[first]);
            let words = below.iter().map(|second| vec![first, second]);
            for words in words.chain([vec![first]]) {
                let words: Vec<&str> = words.into_iter().map(String::as_str).collect();
                let help = ddock.run(&[&words[..], &["--help"]].concat());
                if help.code != 0 && !help.stderr.contains("is not there") {
                    unknown.push(format!("{program} {}", words.join(" ")));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}
