//! Lists, documents and facts as Docker's users ask for them: filters, templates, exit codes.

use crate::harness::ddock::Ddock;

/// What is asked, what stdout is, and the exit code. `ID` and `WHOLE` are the container's, `IMAGE` is its image.
#[rustfmt::skip]
const CASES: &[(&[&str], &str, i32)] = &[
        (&["ps", "-q"], "ID\n", 0),
        (&["ps", "-q", "--no-trunc"], "WHOLE\n", 0),
        (&["ps", "-qf", "name=web"], "ID\n", 0),
        (&["ps", "-qf", "name=nothing"], "", 0),
        (&["ps", "-aqf", "name=^/web$"], "ID\n", 0),
        (&["ps", "-q", "-f", "volume=data"], "ID\n", 0),
        (&["ps", "-q", "-f", "volume=/data"], "ID\n", 0),
        (&["ps", "-q", "-f", "network=bridge"], "ID\n", 0),
        (&["ps", "-q", "-f", "since=done"], "ID\n", 0),
        (
            &["ps", "-q", "-f", "ancestor=IMAGE"],
            "ID\n",
            0,
        ),
        (&["ps", "-l", "--format", "{{.Names}}"], "web\n", 0),
        (
            &["ps", "-n", "2", "--format", "{{.Names}} {{.State}}"],
            "web running\ndone exited\n",
            0,
        ),
        (
            &["ps", "-a", "-f", "exited=1", "--format", "{{.Names}}"],
            "done\n",
            0,
        ),
        (
            &["ps", "-f", "status=exited", "--format", "{{.Names}}"],
            "done\n",
            0,
        ),
        (
            &[
                "ps",
                "-a",
                "-f",
                "label=tier=batch",
                "--format",
                "table {{.Names}}\t{{.Label \"tier\"}}",
            ],
            "NAMES     tier\ndone      batch\n",
            0,
        ),
        (&["ps", "-f", "colour=red"], "", 1),
        (&["ps", "-f", "status=lost"], "", 1),
        (&["ps", "-f", "name"], "", 125),
        (&["ps", "--format", "{{.Nope}}"], "", 1),
        (&["ps", "--format", "{{"], "", 1),
        (
            &["images", "--format", "{{.Repository}}:{{.Tag}}"],
            "IMAGE\n",
            0,
        ),
        (&["images", "-q", "-f", "colour=red"], "", 1),
        (&["volume", "ls", "--format", "{{.Name}}"], "data\n", 0),
        (&["volume", "ls", "-q", "-f", "dangling=true"], "", 0),
        (
            &["volume", "inspect", "-f", "{{.Driver}}", "data"],
            "local\n",
            0,
        ),
        (
            &[
                "network",
                "ls",
                "--format",
                "{{.Name}} {{.Driver}}",
                "-f",
                "name=host",
            ],
            "host host\n",
            0,
        ),
        (
            &["network", "inspect", "-f", "{{.Name}}", "bridge"],
            "bridge\n",
            0,
        ),
        (
            &["inspect", "-f", "{{.State.Running}} {{.Name}}", "web"],
            "true /web\n",
            0,
        ),
        (
            &["inspect", "--format", "{{.State.ExitCode}}", "done", "web"],
            "1\n0\n",
            0,
        ),
        (
            &["inspect", "-f", "{{index .Config.Labels \"a.b\"}}", "web"],
            "c d\n",
            0,
        ),
        (
            &[
                "inspect",
                "-f",
                "{{range .Mounts}}{{.Name}}:{{.Destination}}{{end}}",
                "web",
            ],
            "data:/data\n",
            0,
        ),
        (
            &["inspect", "-f", "{{.Id}}", "--type", "image", "web"],
            "\n",
            1,
        ),
        (&["inspect", "-f", "{{.Id}}", "nothing"], "\n", 1),
        (&["inspect", "-f", "{{.Nope}}", "web"], "\n", 1),
        (&["inspect", "-f", "{{", "web"], "", 64),
        (&["inspect", "--type", "thing", "web"], "", 1),
        (
            &["container", "inspect", "-f", "{{.Id}}", "web"],
            "WHOLE\n",
            0,
        ),
        (&["image", "inspect", "-f", "{{.Os}}", "IMAGE"], "linux\n", 0),
        (&["version", "--format", "{{.Client.Os}}"], "linux\n", 0),
        (
            &["info", "-f", "{{.ContainersRunning}} {{.Containers}}"],
            "1 2\n",
            0,
        ),
        (&["rmi", "-f", "nothing"], "", 0),
        (&["rmi", "nothing"], "", 1),
];

#[test]
fn scripts_find_what_they_look_for() {
    let (ddock, image) = Ddock::with_busybox();
    let run = |name: &str, more: &[&str], command: &[&str]| {
        let words = [&["run", "-d", "--name", name], more, &[&image], command].concat();
        ddock.ok(&words).trim_end().to_owned()
    };
    run("done", &["--label", "tier=batch"], &["false"]);
    ddock.ok(&["wait", "done"]);
    let labels = ["-l", "tier=front", "-l", "a.b=c d", "-v", "data:/data"];
    let web = run("web", &labels, &["sleep", "1000"]);
    let meant = |text: &str| {
        let text = text.replace("WHOLE", &web).replace("ID", &web[..12]);
        text.replace("IMAGE", &image)
    };
    let mut wrong = Vec::new();
    for (words, stdout, code) in CASES {
        // A template's `.ID` is a field.
        let words: Vec<String> = words
            .iter()
            .map(|word| word.replace("IMAGE", &image))
            .collect();
        let output = ddock.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        if output.code != *code || output.stdout != meant(stdout) {
            wrong.push(format!(
                "{words:?}: expected {code} {stdout:?}, got {}",
                output.text()
            ));
        }
    }
    ddock.ok(&["rm", "-f", "web"]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
