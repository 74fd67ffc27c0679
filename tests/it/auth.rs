//! Who ddock is for a registry: logging in, where credentials come from, and what a refusal says.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::harness::authority::Authority;
use crate::harness::canned::{Canned, Reply};
use crate::harness::ddock::{Ddock, Output, output};
use crate::harness::image::{Image, ImageBuilder, busybox};
use crate::harness::registry::{Registry, tls};
use crate::harness::scratch::{Scratch, chmod, command_succeeds};
use crate::harness::terminal::Terminal;
use crate::harness::token_service::{self, TokenService};
use crate::harness::tree::Tree;
use crate::harness::user::User;

const USER: &str = "alice";
const PASSWORD: &str = "s3cr:t-pass";

fn small() -> Image {
    let tree = Tree::new().dir("./", 0o755).file("hello", 0o644, "hello");
    ImageBuilder::new().layer(tree).build()
}

/// A registry that is pushed to without ceremony, and its sibling that speaks TLS and wants to know who asks.
struct Guarded {
    scratch: Scratch,
    _open: Registry,
    registry: Registry,
    authority: Authority,
    reference: String,
}

impl Guarded {
    /// Starts one with `private/image:latest`.
    fn with(image: &Image) -> Guarded {
        let scratch = Scratch::new();
        let mut htpasswd = Command::new("htpasswd");
        let users = command_succeeds(htpasswd.args(["-nbB", "-C", "4", USER, PASSWORD]));
        let users = scratch.file("users", users);
        let open = Registry::start();
        open.push("private/image:latest", image);
        let authority = Authority::new(&scratch, "ca");
        let pair = authority.issue(&["localhost"]);
        let auth = format!(
            "auth: {{htpasswd: {{realm: tests, path: {}}}}}\n",
            users.display()
        );
        let registry = open.sibling("guarded", &tls(&pair), &auth);
        let reference = registry.reference("private/image:latest");
        Guarded {
            scratch,
            _open: open,
            registry,
            authority,
            reference,
        }
    }

    fn new() -> Guarded {
        Guarded::with(&small())
    }

    /// Returns a file of credentials with `entries` in `auths`.
    fn file(&self, name: &str, entries: &[(&str, &str)]) -> PathBuf {
        let path = self.scratch.join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        self.scratch.file(name, auths(entries))
    }

    /// Runs ddock as one who trusts the registry's certificate.
    fn run(&self, ddock: &Ddock, variables: &[(&str, &Path)], args: &[&str]) -> Output {
        let mut command = ddock.command(args);
        command.env("SSL_CERT_FILE", &self.authority.certificate);
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        discreet(output(&mut command))
    }

    fn login(&self, ddock: &Ddock, password: &str) -> Output {
        let mut command = ddock.command(&["login", "-u", USER, "--password-stdin"]);
        command.arg(self.registry.address());
        command.env("SSL_CERT_FILE", &self.authority.certificate);
        let file = self.scratch.file("password", format!("{password}\n"));
        command.stdin(fs_err::File::open(file).unwrap().into_file());
        discreet(output(&mut command))
    }
}

/// Returns a file of credentials: keys, and a name and a password with a colon between.
fn auths(entries: &[(&str, &str)]) -> String {
    let auth = |pair: &str| serde_json::json!({"auth": STANDARD.encode(pair)});
    let entries = entries
        .iter()
        .map(|(key, pair)| ((*key).to_owned(), auth(pair)));
    let entries: serde_json::Map<String, Value> = entries.collect();
    serde_json::json!({"auths": entries}).to_string()
}

fn right() -> String {
    format!("{USER}:{PASSWORD}")
}

/// Fails the test if a secret shows, in the clear or as `auth` has it.
#[track_caller]
fn discreet(output: Output) -> Output {
    let text = output.text();
    for secret in [
        PASSWORD,
        "wr0ng",
        token_service::PASSWORD,
        token_service::IDENTITY_TOKEN,
        &STANDARD.encode(right()),
        &STANDARD.encode(format!("{USER}:wr0ng")),
    ] {
        assert!(!text.contains(secret), "`{secret}` shows: {text}");
    }
    output
}

/// Makes a credential helper `docker-credential-NAME` of `script` in the directory `bin`, and returns a PATH with it.
fn helper(scratch: &Scratch, name: &str, script: &str) -> PathBuf {
    let bin = scratch.dir("bin");
    let path = scratch.file(
        &format!("bin/docker-credential-{name}"),
        format!("#!/bin/sh\n{script}\n"),
    );
    chmod(&path, 0o755);
    format!("{}:/usr/bin:/bin", bin.display()).into()
}

#[test]
fn login_asks_the_registry_before_it_keeps_and_logout_forgets() {
    let guarded = Guarded::new();
    let ddock = Ddock::new();
    let host = guarded.registry.address();
    let kept = ddock.scratch().join(".docker/config.json");

    let refused = guarded.login(&ddock, "wr0ng").exits(1);
    assert_eq!(
        refused.stderr,
        format!("ddock: cannot log in to `{host}`: `{host}` refuses the user name or password\n")
    );
    assert!(!kept.exists());

    ddock.scratch().dir(".docker");
    let before = r#"{"psFormat":"x","auths":{"other":{"auth":"eDp5"}},"HttpHeaders":{"a":"b"}}"#;
    fs_err::write(&kept, before).unwrap();
    chmod(&kept, 0o644);
    let output = guarded.login(&ddock, PASSWORD).exits(0);
    assert_eq!(output.stdout, "Login Succeeded\n");
    let warning = format!("credentials are stored unencrypted in '{}'", kept.display());
    let output = output.says(&warning);
    assert_eq!(output.stderr.lines().count(), 2, "{}", output.text());
    let mode = fs_err::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs_err::read_to_string(&kept).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    let mut expected: Value = serde_json::from_str(before).unwrap();
    expected["auths"][host] = serde_json::json!({"auth": STANDARD.encode(right())});
    assert_eq!(found.to_string(), expected.to_string());

    guarded
        .run(&ddock, &[], &["pull", "-q", &guarded.reference])
        .exits(0);
    let logout = |server: &str| {
        guarded
            .run(&ddock, &[], &["logout", server])
            .exits(0)
            .stdout
    };
    let url = format!("https://{host}/v2/");
    assert_eq!(
        logout(&url),
        format!("Removing login credentials for {host}\n")
    );
    assert_eq!(logout(host), format!("Not logged in to {host}\n"));
    guarded
        .run(&ddock, &[], &["pull", "-q", &guarded.reference])
        .exits(1)
        .says("it is private; you are not logged in")
        .says(&format!(
            "hint: check the name; if the repository is private, `ddock login {host}` first"
        ));
}

#[test]
fn login_refuses_what_it_cannot_do() {
    let ddock = Ddock::new();
    for (args, text) in [
        (
            "r.io",
            "Cannot perform an interactive login from a non TTY device",
        ),
        ("-u x r.io", "Cannot perform an interactive login"),
        (
            "--password-stdin r.io",
            "Must provide --username with --password-stdin",
        ),
        (
            "-u x -p wr0ng --password-stdin r.io",
            "are mutually exclusive",
        ),
        ("-u x --password-stdin r.io", "the password is empty"),
        ("-u a:b -p wr0ng r.io", "a user name has no colon"),
        ("-u x -p wr0ng host", "`host` is no name of a registry"),
        ("-u x -p wr0ng 127.0.0.1:1", "cannot reach `127.0.0.1:1`"),
        ("-u x -p wr0ng 127.0.0.1:1", "Use --password-stdin."),
    ] {
        let args: Vec<_> = ["login"].into_iter().chain(args.split(' ')).collect();
        discreet(ddock.run(&args)).exits(1).says(text);
    }
    assert!(!ddock.scratch().join(".docker").exists());
}

#[test]
fn flags_with_credentials_are_checked_and_not_shown() {
    let ddock = Ddock::new();
    for (args, code, text) in [
        (
            "pull --creds wr0ng r.io/x",
            125,
            "no password, and there is no terminal to ask for one",
        ),
        ("pull --authfile /none r.io/x", 1, "/none"),
        (
            "run --creds wr0ng r.io/x",
            125,
            "no password, and there is no terminal to ask for one",
        ),
    ] {
        let args: Vec<_> = args.split(' ').collect();
        discreet(ddock.run(&args)).exits(code).says(text);
    }
}

#[test]
fn a_password_is_typed_without_showing_and_the_terminal_stays_sound() {
    let guarded = Guarded::new();
    let ddock = Ddock::new();
    let mut command = ddock.command(&["login", guarded.registry.address()]);
    command.env("SSL_CERT_FILE", &guarded.authority.certificate);
    let mut terminal = Terminal::start(&command, 24, 80);
    terminal.expect("Username: ");
    terminal.send(&format!("{USER}\n"));
    terminal.expect("Password: ");
    assert!(!terminal.is_cooked());
    terminal.send(&format!("{PASSWORD}\n"));
    let shown = terminal.expect("Login Succeeded");
    assert!(!shown.contains(PASSWORD), "{shown}");
    assert_eq!(terminal.wait(), 0);
    assert!(terminal.is_cooked());

    let mut terminal = Terminal::start(&command, 24, 80);
    terminal.expect("Username: ");
    terminal.send("x\n");
    terminal.expect("Password: ");
    terminal.send("half\u{3}");
    assert_eq!(terminal.wait(), 130);
    assert!(terminal.is_cooked());
}

#[test]
fn the_password_of_a_pull_is_typed_where_it_is_left_out() {
    let guarded = Guarded::new();
    let ddock = Ddock::new();
    let image = guarded.reference.as_str();
    let of_run = ["run", "--rm", "--pull=always", "--creds", USER, image, "x"];
    // The image has no program at all.
    for (args, code) in [(&["pull", "--creds", USER, image][..], 0), (&of_run, 127)] {
        let mut command = ddock.command(args);
        command.env("SSL_CERT_FILE", &guarded.authority.certificate);
        let mut terminal = Terminal::start(&command, 24, 80);
        terminal.expect("Password: ");
        terminal.send(&format!("{PASSWORD}\n"));
        assert_eq!(terminal.wait(), code, "{args:?}");
    }
}

/// A terminal shows what runs, and whoever may look at processes sees their words: the pull's are not the password's place.
#[test]
fn the_pull_of_run_is_given_the_password_where_no_list_of_processes_shows_it() {
    let (seen, words) = mpsc::channel();
    let registry = Canned::serve(move |request| {
        let authorization = request.header("authorization").map(str::to_owned);
        // The pull waits for this answer, so it is there to be looked at.
        seen.send((authorization, words_of_pulls())).unwrap();
        Reply::error(401, "UNAUTHORIZED", "who are you?")
            .header("www-authenticate", "Basic realm=\"x\"")
    });
    let reference = registry.reference("private/creds-of-run");
    let ddock = Ddock::new();
    let args = ["run", "-q", "--creds", &right(), &reference];
    discreet(ddock.run(&args)).exits(125);
    let seen: Vec<_> = words.try_iter().collect();
    let basic = format!("Basic {}", STANDARD.encode(right()));
    assert!(
        seen.iter()
            .any(|(header, _)| header.as_deref() == Some(&basic))
    );
    for (_, pulls) in seen {
        let own: Vec<_> = pulls
            .iter()
            .filter(|words| words.contains(&reference))
            .collect();
        assert_eq!(own.len(), 1, "{pulls:?}");
        assert!(!own[0].contains(PASSWORD));
    }
}

/// Returns the words of every pull that `run` started.
fn words_of_pulls() -> Vec<String> {
    let processes = fs_err::read_dir("/proc").unwrap();
    let files = processes.map(|entry| entry.unwrap().path().join("cmdline"));
    let words = files.filter_map(|file| fs_err::read_to_string(file).ok());
    words.filter(|words| words.contains("--for-run")).collect()
}

#[test]
fn run_pulls_with_credentials_of_its_own() {
    let guarded = Guarded::with(&busybox().build());
    for ddock in [Ddock::new(), Ddock::for_user(User::with_ranges())] {
        let args = ["run", "-q", "--rm", &guarded.reference, "true"];
        guarded
            .run(&ddock, &[], &args)
            .exits(125)
            .says("you are not logged in");
        let wrong = format!("--creds={USER}:wr0ng");
        let args = ["run", "-q", "--rm", &wrong, &guarded.reference, "true"];
        guarded.run(&ddock, &[], &args).exits(125);
        let right = format!("--creds={}", right());
        let args = [
            "run",
            "-q",
            "--rm",
            &right,
            &guarded.reference,
            "echo",
            "in",
        ];
        assert_eq!(guarded.run(&ddock, &[], &args).exits(0).stdout, "in\n");
    }
}

/// Pulls with credentials in each place there is, alone.
fn pull_by_every_source(guarded: &Guarded, ddock: &Ddock) {
    let host = guarded.registry.address();
    let scratch = &guarded.scratch;
    let pair = right();
    let entry = [(host, pair.as_str())];
    let text = PathBuf::from(auths(&entry));
    let flat = serde_json::from_str::<Value>(text.to_str().unwrap()).unwrap()["auths"].to_string();
    scratch.dir("empty");
    scratch.dir("flat");
    scratch.file("flat/.dockercfg", flat);
    let any = guarded.file("any.json", &entry);
    guarded.file("docker/config.json", &entry);
    guarded.file("home/.docker/config.json", &entry);
    guarded.file("run/containers/auth.json", &entry);
    guarded.file("config/containers/auth.json", &entry);
    guarded.file("xdg/.config/containers/auth.json", &entry);
    let empty = scratch.join("empty");
    for (variable, value) in [
        ("DOCKER_AUTH_CONFIG", text),
        ("REGISTRY_AUTH_FILE", any.clone()),
        ("DOCKER_CONFIG", scratch.join("docker")),
        ("HOME", scratch.join("home")),
        ("XDG_RUNTIME_DIR", scratch.join("run")),
        ("XDG_CONFIG_HOME", scratch.join("config")),
        ("HOME", scratch.join("xdg")),
        ("HOME", scratch.join("flat")),
    ] {
        let variables = [("HOME", empty.as_path()), (variable, value.as_path())];
        let output = guarded.run(ddock, &variables, &["pull", "-q", &guarded.reference]);
        assert_eq!(output.code, 0, "{variable}: {}", output.text());
    }
    let home = [("HOME", empty.as_path())];
    for (flag, value) in [("--authfile", any.to_str().unwrap()), ("--creds", &right())] {
        guarded
            .run(
                ddock,
                &home,
                &["pull", "-q", flag, value, &guarded.reference],
            )
            .exits(0);
    }
    guarded
        .run(ddock, &home, &["pull", "-q", &guarded.reference])
        .exits(1)
        .says("you are not logged in");
}

#[test]
fn credentials_are_found_in_every_place() {
    pull_by_every_source(&Guarded::new(), &Ddock::new());
}

#[test]
fn credentials_are_found_in_every_place_by_an_ordinary_user() {
    pull_by_every_source(&Guarded::new(), &Ddock::for_user(User::with_ranges()));
}

/// Root's podman makes `/run/containers` for root alone.
#[test]
fn a_place_that_a_user_may_not_enter_has_nothing_for_him() {
    let guarded = Guarded::new();
    let ddock = Ddock::for_user(User::with_ranges());
    let command = ddock.command(&["pull", "-q", &guarded.reference]);
    let script = "mount -t tmpfs none /run && mkdir -m 700 /run/containers && exec \"$@\"";
    let mut apart = Command::new("unshare");
    apart
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("SSL_CERT_FILE", &guarded.authority.certificate);
    discreet(output(&mut apart))
        .exits(1)
        .says("you are not logged in");
}

#[test]
fn the_first_source_with_an_entry_wins_and_errors_name_it() {
    let guarded = Guarded::new();
    let ddock = Ddock::new();
    let host = guarded.registry.address();
    let (good, wrong) = (right(), format!("{USER}:wr0ng"));
    let good_file = guarded.file("good.json", &[(host, &good)]);
    let wrong_file = guarded.file("wrong.json", &[(host, &wrong)]);
    let other_file = guarded.file("other.json", &[("other.io", &wrong)]);
    let pull = |first: &Path, second: &Path| {
        let args = [
            "pull",
            "-q",
            "--authfile",
            first.to_str().unwrap(),
            &guarded.reference,
        ];
        guarded.run(&ddock, &[("REGISTRY_AUTH_FILE", second)], &args)
    };
    pull(&good_file, &wrong_file).exits(0);
    pull(&other_file, &good_file).exits(0);
    pull(&wrong_file, &good_file).exits(1).says(&format!(
        "`{host}` refuses the user name or password; you are logged in as `{USER}` (key `{host}` in {})",
        wrong_file.display()
    ));
}

#[test]
fn the_longest_path_wins_as_podman_has_it() {
    let guarded = Guarded::new();
    let ddock = Ddock::new();
    let host = guarded.registry.address();
    let (good, wrong) = (right(), format!("{USER}:wr0ng"));
    let namespace = format!("{host}/private");
    let repository = format!("{host}/private/image");
    let other = format!("{host}/private/im");
    let pull = |entries: &[(&str, &str)]| {
        let file = guarded.file("auth.json", entries);
        let variables = [("REGISTRY_AUTH_FILE", file.as_path())];
        guarded.run(&ddock, &variables, &["pull", "-q", &guarded.reference])
    };
    pull(&[(host, &wrong), (&namespace, &good), (&other, &wrong)]).exits(0);
    pull(&[(host, &wrong), (&namespace, &wrong), (&repository, &good)]).exits(0);
    pull(&[(host, &good), (&namespace, &wrong)])
        .exits(1)
        .says(&format!("key `{namespace}` in"));
    pull(&[(&other, &good)])
        .exits(1)
        .says("you are not logged in");
}

/// Pulls by a helper, and returns what it noted: who ran it, and which server it was asked for.
fn pull_by_helper(guarded: &Guarded, ddock: &Ddock, noted: &Path) -> String {
    let scratch = &guarded.scratch;
    let script = format!(
        r#"read -r server; echo "$(id -u) $1 $server" >{}
printf '{{"ServerURL":"x","Username":"{USER}","Secret":"{PASSWORD}"}}'"#,
        noted.display()
    );
    let path = helper(scratch, "kept", &script);
    scratch.dir("with-helper");
    let host = guarded.registry.address();
    let configuration = format!(
        r#"{{"credHelpers":{{"{host}":"kept"}},"credsStore":"none","auths":{{"{host}":{{}}}}}}"#
    );
    scratch.file("with-helper/config.json", configuration);
    let home = scratch.join("with-helper");
    let variables = [("DOCKER_CONFIG", home.as_path()), ("PATH", path.as_path())];
    let output = guarded.run(ddock, &variables, &["pull", "-q", &guarded.reference]);
    assert_eq!(output.exits(0).stderr, "");
    fs_err::read_to_string(noted).unwrap()
}

#[test]
fn a_helper_is_asked_as_the_user_who_asks() {
    let guarded = Guarded::new();
    let host = guarded.registry.address();
    let noted = pull_by_helper(&guarded, &Ddock::new(), &guarded.scratch.join("noted"));
    assert_eq!(noted, format!("0 get {host}\n"));

    let user = User::with_ranges();
    let uid = user.uid;
    let own = guarded.scratch.dir("own");
    user.give(&own);
    let ddock = Ddock::for_user(user);
    let noted = pull_by_helper(&guarded, &ddock, &own.join("noted"));
    assert_eq!(noted, format!("{uid} get {host}\n"));
}

#[test]
fn a_helper_that_fails_is_named_with_its_words() {
    let guarded = Guarded::new();
    let ddock = Ddock::new();
    let scratch = &guarded.scratch;
    scratch.dir("docker");
    let pull = |path: &Path, name: &str| {
        scratch.file(
            "docker/config.json",
            format!(r#"{{"credsStore":"{name}"}}"#),
        );
        let docker = scratch.join("docker");
        let variables = [("DOCKER_CONFIG", docker.as_path()), ("PATH", path)];
        guarded
            .run(&ddock, &variables, &["pull", "-q", &guarded.reference])
            .exits(1)
            .says("you are not logged in")
    };
    let path = helper(scratch, "locked", "echo 'the vault is locked'; exit 1");
    pull(&path, "locked")
        .says("`docker-credential-locked` failed (exit status: 1): the vault is locked");
    let missing = "echo 'credentials not found in native keychain'; exit 1";
    let path = helper(scratch, "empty", missing);
    let output = pull(&path, "empty");
    assert!(
        !output.stderr.contains("docker-credential"),
        "{}",
        output.text()
    );
    pull(&path, "none").says("the credential helper `docker-credential-none` is not in PATH");
    pull(&path, "../bin/x").says("`../bin/x` is no name of a credential helper");
}

#[test]
fn a_helper_of_the_working_directory_is_not_run() {
    let guarded = Guarded::new();
    let ddock = Ddock::new();
    let scratch = &guarded.scratch;
    let ran = scratch.join("ran");
    helper(scratch, "evil", &format!("touch {}", ran.display()));
    scratch.dir("bin/below");
    for path in [
        ".:/usr/bin",
        ":/usr/bin",
        "/usr/bin:",
        "../bin:/usr/bin",
        "./:/usr/bin",
    ] {
        let mut command = ddock.command(&["pull", "-q", &guarded.reference]);
        command
            .current_dir(scratch.join("bin"))
            .env("DOCKER_AUTH_CONFIG", r#"{"credsStore":"evil"}"#)
            .env("SSL_CERT_FILE", &guarded.authority.certificate)
            .env("PATH", path);
        output(&mut command)
            .exits(1)
            .says("the credential helper `docker-credential-evil` is not in PATH");
        assert!(!ran.exists(), "{path}");
    }
}

#[test]
fn login_gives_the_password_to_a_helper_and_no_command_line_shows_it() {
    let guarded = Guarded::new();
    let ddock = Ddock::new();
    let scratch = &guarded.scratch;
    let host = guarded.registry.address();
    let (kept, seen) = (scratch.join("kept"), scratch.join("seen"));
    let script = format!(
        r#"case $1 in
    store) cat >{kept}; for one in /proc/[0-9]*/cmdline; do tr '\0' ' ' <"$one"; done >{seen} 2>/dev/null; true ;;
    get) if [ -e {kept} ]; then cat {kept}; else echo credentials not found in native keychain; exit 1; fi ;;
    erase) rm {kept} ;;
esac"#,
        kept = kept.display(),
        seen = seen.display()
    );
    let path = helper(scratch, "vault", &script);
    let configuration = ddock.scratch().join(".docker/config.json");
    ddock.scratch().dir(".docker");
    fs_err::write(&configuration, r#"{"credsStore":"vault"}"#).unwrap();
    let variables = [("PATH", path.as_path())];

    let mut command = ddock.command(&["login", "-u", USER, "--password-stdin", host]);
    command
        .env("SSL_CERT_FILE", &guarded.authority.certificate)
        .env("PATH", &path);
    let file = scratch.file("password", PASSWORD);
    command.stdin(fs_err::File::open(file).unwrap().into_file());
    let output = discreet(output(&mut command)).exits(0);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("Login Succeeded\n", "")
    );
    let given: Value = serde_json::from_slice(&fs_err::read(&kept).unwrap()).unwrap();
    assert_eq!(
        given,
        serde_json::json!({"ServerURL": host, "Username": USER, "Secret": PASSWORD})
    );
    let seen = fs_err::read_to_string(seen).unwrap();
    assert!(
        seen.contains("login -u alice") && !seen.contains(PASSWORD),
        "{seen}"
    );
    let text = fs_err::read_to_string(&configuration).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        found,
        serde_json::json!({"credsStore": "vault", "auths": {host: {}}})
    );

    guarded
        .run(&ddock, &variables, &["pull", "-q", &guarded.reference])
        .exits(0);
    let output = guarded.run(&ddock, &variables, &["logout", host]).exits(0);
    assert_eq!(
        output.stdout,
        format!("Removing login credentials for {host}\n")
    );
    assert!(!kept.exists());
    let output = guarded.run(&ddock, &variables, &["logout", host]).exits(0);
    assert_eq!(output.stdout, format!("Not logged in to {host}\n"));
}

#[test]
fn the_pull_of_a_run_takes_the_same_credentials() {
    let guarded = Guarded::with(&busybox().build());
    let ddock = Ddock::new();
    let pair = right();
    let file = guarded.file("auth.json", &[(guarded.registry.address(), &pair)]);
    let args = [
        "run",
        "--rm",
        "-q",
        "--authfile",
        file.to_str().unwrap(),
        &guarded.reference,
        "echo",
        "ran",
    ];
    let output = guarded.run(&ddock, &[], &args).exits(0);
    assert_eq!(output.stdout, "ran\n");
    let args = [
        "run",
        "--rm",
        "--pull",
        "always",
        &guarded.reference,
        "true",
    ];
    guarded
        .run(&ddock, &[("REGISTRY_AUTH_FILE", &file)], &args)
        .exits(0);
    guarded
        .run(&ddock, &[], &args)
        .exits(125)
        .says("you are not logged in");
}

/// A registry that wants a token service's tokens, with an image in each of three namespaces.
fn with_tokens(scratch: &Scratch, age: u64) -> (Registry, Registry, TokenService) {
    let open = Registry::start();
    for name in ["public/image:1", "private/image:1", "other/image:1"] {
        open.push(name, &small());
    }
    let service = TokenService::start(&Authority::new(scratch, "ca"), age);
    let registry = open.sibling("tokens", "", &service.section());
    (open, registry, service)
}

#[test]
fn a_token_service_is_asked_and_refusals_are_told_apart() {
    let scratch = Scratch::new();
    let (_open, registry, service) = with_tokens(&scratch, 0);
    let ddock = Ddock::new();
    let host = registry.address();
    let file = |name: &str, password: &str| {
        let pair = format!("{}:{password}", token_service::USER);
        scratch
            .file(name, auths(&[(host, &pair)]))
            .to_str()
            .unwrap()
            .to_owned()
    };
    let (known, wrong) = (
        file("known.json", token_service::PASSWORD),
        file("wrong.json", "wr0ng"),
    );
    let pull = |name: &str, flags: &[&str]| {
        let name = registry.reference(name);
        discreet(ddock.run(&[&["pull", "-q"], flags, &[name.as_str()]].concat()))
    };
    pull("public/image:1", &[]).exits(0);
    pull("private/image:1", &["--authfile", &known]).exits(0);
    // One token is enough for a whole pull.
    assert_eq!(service.requests().len(), 2);
    assert!(service.requests()[1].target.contains("account=alice"));

    let user = format!("you are logged in as `alice` (key `{host}` in {known})");
    for (name, flags, text) in [
        ("public/image:2", &[][..], "not found in"),
        (
            "private/image:1",
            &[],
            "there is no such repository, or it is private; you are not logged in",
        ),
        ("other/image:1", &["--authfile", &known], user.as_str()),
        (
            "other/image:1",
            &["--authfile", &known],
            "this user may not read it",
        ),
        (
            "private/image:1",
            &["--authfile", &wrong],
            "refuses the user name or password; you are logged in as `alice`",
        ),
    ] {
        pull(name, flags).exits(1).says(text);
    }
    let gone = registry.reference("x").replace(host, "127.0.0.1:1");
    ddock
        .run(&["pull", &gone])
        .exits(1)
        .says("cannot reach `127.0.0.1:1`");
}

#[test]
fn login_goes_by_the_token_service() {
    let scratch = Scratch::new();
    let (_open, registry, service) = with_tokens(&scratch, 0);
    let ddock = Ddock::new();
    let host = registry.address();
    let login = |password: &str| {
        let args = ["login", "-u", token_service::USER, "--password-stdin", host];
        discreet(ddock.feed(&args, password.as_bytes()))
    };
    login("wr0ng")
        .exits(1)
        .says("refuses the user name or password");
    assert!(!ddock.scratch().join(".docker").exists());
    let output = login(token_service::PASSWORD).exits(0);
    assert_eq!(output.stdout, "Login Succeeded\n");
    // To log in is to ask for no repository.
    for request in service.requests() {
        assert!(!request.target.contains("scope="), "{}", request.target);
    }
    ddock.ok(&["pull", "-q", &registry.reference("private/image:1")]);
}

#[test]
fn identity_tokens_work_from_files_and_from_helpers() {
    let scratch = Scratch::new();
    let (_open, registry, service) = with_tokens(&scratch, 0);
    let ddock = Ddock::new();
    let (host, token) = (registry.address(), token_service::IDENTITY_TOKEN);
    let text =
        format!(r#"{{"auths":{{"{host}":{{"auth":"YWxpY2U6","identitytoken":"{token}"}}}}}}"#);
    let file = scratch.file("identity.json", text);
    let reference = registry.reference("private/image:1");
    let pull = ["pull", "-q", reference.as_str()];
    discreet(output(ddock.command(&pull).env("REGISTRY_AUTH_FILE", file))).exits(0);

    let script = format!(r#"echo '{{"Username":"<token>","Secret":"{token}"}}'"#);
    let path = helper(&scratch, "identity", &script);
    scratch.dir("docker");
    scratch.file("docker/config.json", r#"{"credsStore":"identity"}"#);
    let mut command = ddock.command(&pull);
    command
        .env("DOCKER_CONFIG", scratch.join("docker"))
        .env("PATH", path);
    discreet(output(&mut command)).exits(0);
    let methods: Vec<_> = service
        .requests()
        .into_iter()
        .map(|request| request.method)
        .collect();
    assert_eq!(methods, ["POST", "POST"]);
}

#[test]
fn tokens_near_their_end_are_renewed_before_the_registry_refuses_them() {
    let scratch = Scratch::new();
    let (_open, registry, service) = with_tokens(&scratch, token_service::LIFE);
    let reference = registry.reference("public/image:1");
    let requests = registry.requests_during(|| {
        Ddock::new().ok(&["pull", "-q", &reference]);
    });
    let refused = requests.iter().filter(|request| request.ends_with(" 401"));
    assert_eq!(refused.count(), 1, "{requests:?}");
    assert!(service.requests().len() > 1);
}
