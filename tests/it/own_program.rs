//! The host's file of ddock's own program: no container changes it, whatever its image says.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::ddock::{Ddock, Output};
use crate::harness::image::{ImageBuilder, busybox_tree};
use crate::harness::scratch::{chmod, command_succeeds};
use crate::harness::tree::Tree;
use crate::harness::user::User;
use serde_json::json;

const REFUSED: &str = "ddock's own program, which is not the container's to run";

/// What ddock starts where it obeys the words and variables of an image: it changes the program of whoever started it.
const HELPER: &str = "#!/bin/sh\nfor p in 1 $PPID; do chmod 6777 /proc/$p/exe; echo x >> /proc/$p/exe; done\nexit 1\n";

/// ddock, whose program is its user's own, and an image.
struct Host {
    who: &'static str,
    ddock: Ddock,
    image: String,
    program: PathBuf,
    before: Vec<i64>,
}

impl Host {
    /// Root, and an ordinary user, each with an image of `add`'s entries on busybox's.
    fn both(add: fn(Tree) -> Tree) -> [Host; 2] {
        [None, Some(User::with_ranges())].map(|user| {
            let who = user.as_ref().map_or("root", |_| "an ordinary user");
            let mut ddock = user.map_or_else(Ddock::new, Ddock::for_user);
            let program = ddock.take_own_copy();
            let tree = busybox_tree().file("bin/docker-credential-evil", 0o755, HELPER);
            let environment = ["PATH=/bin", r#"DOCKER_AUTH_CONFIG={"credsStore":"evil"}"#];
            let image = ImageBuilder::new().layer(add(tree));
            let image = ddock.pull(image.config("Env", json!(environment)));
            let before = state(&program);
            Host {
                who,
                ddock,
                image,
                program,
                before,
            }
        })
    }

    /// Runs the image with words that ddock would obey if the command were ddock, and sees to it that it did not.
    fn run(&self, flags: &[&str], command: &str) -> Output {
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend(flags);
        args.extend([&*self.image, command, "pull", "127.0.0.1:1/evil"]);
        let output = self.ddock.run(&args);
        let told = format!("{}, {flags:?} {command}: {}", self.who, output.text());
        assert_eq!(state(&self.program), self.before, "{told}");
        output
    }
}

/// Everything of a file that a write, a new mode or a new owner changes.
fn state(program: &PathBuf) -> Vec<i64> {
    let file = fs_err::metadata(program).unwrap();
    let ids = [file.mode(), file.uid(), file.gid()].map(i64::from);
    let times = [
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ];
    [&ids[..], &times, &[i64::try_from(file.len()).unwrap()]].concat()
}

/// Each way that the kernel knows from a file to the program of the process which executes it, and some that lead elsewhere.
fn spellings(mut tree: Tree) -> Tree {
    let padded = format!("#!{}/proc/self/exe\n", " ".repeat(235));
    let cut = format!("#!{}/proc/self/exe", "\t".repeat(240));
    for (name, line) in [
        ("plain", "#!/proc/self/exe\n"),
        ("nul", "#!/proc/self/exe\0\n"),
        ("nuls", "#! \t/proc/self/exe\0\0x y\0\n"),
        ("open", "#!/proc/self/exe"),
        ("argument", "#!/proc/self/exe --root=/x\n"),
        ("padded", &padded),
        ("cut", &cut),
        ("relative", "#!proc/self/exe\n"),
        ("dots", "#!/proc/./self/../1/exe\n"),
        ("first", "#!/proc/1/exe\n"),
        ("thread", "#!/proc/thread-self/exe\n"),
        ("task", "#!/proc/self/task/1/exe\n"),
        ("here", "#!/proc/self/cwd/proc/self/root/proc/self/exe\n"),
        ("link", "#!/bin/link2\n"),
    ] {
        tree = tree.file(&format!("--root={name}"), 0o755, line);
    }
    // The kernel goes on to the next interpreter five times.
    for length in 1..=6 {
        let last = length == 1;
        let next = if last {
            "/proc/self/exe".to_owned()
        } else {
            format!("/chain{}", length - 1)
        };
        tree = tree.file(&format!("chain{length}"), 0o755, format!("#!{next}\n"));
    }
    tree.symlink("bin/link", "/proc/self/exe")
        .symlink("bin/link2", "link")
        .symlink("bin/ddock-init", "link")
        .symlink("with space", "bin/link2")
        .file("loaded", 0o755, loaded_by("/proc/self/exe"))
}

/// A program whose loader is the one at `loader` (elf(5), `PT_INTERP`).
fn loaded_by(loader: &str) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let word =
        |file: &mut Vec<u8>, size: usize, number: u64| file.extend(&number.to_le_bytes()[..size]);
    let machine = if cfg!(target_arch = "x86_64") {
        62
    } else {
        183
    };
    let header = [
        (2, 2),
        (2, machine),
        (4, 1),
        (8, 0x40_0000),
        (8, 64),
        (8, 0),
        (4, 0),
        (2, 64),
        (2, 56),
        (2, 2),
        (2, 0),
        (2, 0),
        (2, 0),
    ];
    let length = loader.len() as u64 + 1;
    // The loader's name lies at 176, behind both headers.
    let interpreter = [
        (4, 3),
        (4, 4),
        (8, 176),
        (8, 0),
        (8, 0),
        (8, length),
        (8, length),
        (8, 1),
    ];
    let code = [
        (4, 1),
        (4, 5),
        (8, 0),
        (8, 0x40_0000),
        (8, 0x40_0000),
        (8, 176 + length),
        (8, 176 + length),
        (8, 0x1000),
    ];
    for (size, number) in header.iter().chain(&interpreter).chain(&code) {
        word(&mut file, *size, *number);
    }
    file.extend(loader.as_bytes());
    file.push(0);
    file
}

#[test]
fn no_spelling_of_an_image_leads_to_a_program_that_it_can_change() {
    for host in Host::both(spellings) {
        let scripts = [
            "plain", "nul", "nuls", "open", "argument", "padded", "relative", "dots", "first",
            "thread", "task", "here", "link",
        ];
        let scripts = scripts.map(|name| format!("./--root={name}"));
        let chains = ["/chain1", "/chain2", "/chain3", "/chain4", "/chain5"];
        let links = [
            "/proc/self/exe",
            "/proc/1/exe",
            "/proc/thread-self/exe",
            "link",
            "/bin/link2",
            "/with space",
            "/proc/self/root/bin/link",
        ];
        for command in scripts
            .iter()
            .map(String::as_str)
            .chain(chains)
            .chain(links)
        {
            let output = host.run(&[], command);
            let told = format!("{}, {command}: {}", host.who, output.text());
            assert!(
                output.code == 126 && output.stderr.contains(REFUSED),
                "{told}"
            );
        }
        // Whatever else they come to: too long a chain, the words of an init, a loader, descriptors of the first process.
        for command in ["./--root=cut", "/chain6", "ddock-init", "/loaded"] {
            host.run(&[], command);
        }
        for number in 0..12 {
            host.run(&["-w", "/proc/self/fd"], &format!("./{number}"));
        }
        for flags in [
            &["--init"][..],
            &["--privileged"],
            &["--privileged", "--init"],
            &["--pid", "host"],
            &["--privileged", "--pid", "host"],
            &["-t"],
        ] {
            for command in ["./--root=nul", "/chain5", "link", "/loaded"] {
                host.run(flags, command);
            }
        }
    }
}

/// A handler of `binfmt_misc` that is there for one test.
struct Handler(String);

impl Handler {
    fn register(interpreter: &str) -> (Handler, String) {
        let name = format!("ddock-test-{}", std::process::id());
        let magic = format!("ddock test {}", std::process::id());
        let line = format!(":{name}:M::{magic}::{interpreter}:");
        fs_err::write("/proc/sys/fs/binfmt_misc/register", line).unwrap();
        (Handler(name), magic)
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        drop(fs_err::write(
            format!("/proc/sys/fs/binfmt_misc/{}", self.0),
            "-1",
        ));
    }
}

#[test]
fn a_handler_of_other_formats_leads_to_no_program_that_an_image_can_change() {
    if !PathBuf::from("/proc/sys/fs/binfmt_misc/register").exists() {
        command_succeeds(Command::new("mount").args([
            "-t",
            "binfmt_misc",
            "none",
            "/proc/sys/fs/binfmt_misc",
        ]));
    }
    let (_handler, magic) = Handler::register("/bin/handler");
    for host in Host::both(|tree| tree.symlink("bin/handler", "/proc/self/exe")) {
        let shared = host.ddock.scratch().dir("shared");
        chmod(&shared, 0o755);
        fs_err::write(shared.join("x"), &magic).unwrap();
        chmod(&shared.join("x"), 0o755);
        let volume = format!("{}:/--root=", shared.display());
        let output = host.run(&["-v", &volume], "./--root=/x");
        assert!(
            output.code == 126 && output.stderr.contains(REFUSED),
            "{}: {}",
            host.who,
            output.text()
        );
        host.run(&["-v", &volume, "--init"], "./--root=/x");
        host.run(&["-v", &volume, "--privileged"], "./--root=/x");
    }
}

#[test]
fn a_command_that_others_exchange_leads_to_no_program_that_they_can_change() {
    for host in Host::both(|tree| tree) {
        let shared = host.ddock.scratch().dir("shared");
        chmod(&shared, 0o755);
        let (volume, ended) = (format!("{}:/v", shared.display()), AtomicBool::new(false));
        symlink("/bin/true", shared.join("x")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for target in ["/proc/self/exe", "/bin/true"].iter().cycle() {
                    symlink(target, shared.join("y")).unwrap();
                    fs_err::rename(shared.join("y"), shared.join("x")).unwrap();
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            let mut codes: Vec<_> = (0..10)
                .map(|_| host.run(&["-v", &volume], "/v/x").code)
                .collect();
            ended.store(true, Ordering::Relaxed);
            // Busybox has no applet of that name.
            codes.retain(|code| ![126, 127].contains(code));
            assert_eq!(codes, [0; 0], "{}", host.who);
        });
    }
}

/// Tries to change each file that a process of the container shows and that has no name in it: none is the container's.
const WALK: &str = r#"
for process in $PROCESSES; do
    for file in /proc/$process/exe /proc/$process/cwd /proc/$process/root /proc/$process/fd/* /proc/$process/map_files/*; do
        [ -f $file ] || [ -d $file ] || [ -b $file ] || continue
        [ $file -ef "$(readlink $file)" ] && continue
        echo "seen $file"
        chmod $(stat -L -c %a $file) $file && echo "REACHED $file"
        if [ -d $file ]; then mkdir $file/ddock-test; else (: >> $file); fi && echo "REACHED $file"
    done
done 2>/dev/null
true
"#;

#[test]
fn nothing_of_the_host_that_a_container_sees_can_be_written() {
    let inside = format!("PROCESSES=$(cd /proc; echo [0-9]*)\n{WALK}");
    // Those above the container's: what the host runs besides is not ddock's to hide.
    let above = format!(
        "p=$$; while [ $p -gt 0 ]; do PROCESSES=\"$PROCESSES $p\"; p=$(awk '/^PPid/ {{print $2}}' /proc/$p/status); done\n{WALK}"
    );
    for host in Host::both(|tree| tree) {
        for (flags, script) in [
            (&[][..], &inside),
            (&["--init"], &inside),
            (&["--init", "--cap-add", "ALL"], &inside),
            (&["--init", "--privileged"], &inside),
            (
                &[
                    "--init",
                    "--security-opt",
                    "seccomp=unconfined",
                    "--read-only",
                ],
                &inside,
            ),
            (&["--pid", "host"], &above),
        ] {
            let seen = host.ddock.sh(flags, &host.image, script);
            let told = format!("{}, {flags:?}: {seen}", host.who);
            assert!(!seen.contains("REACHED"), "{told}");
            // It looks where there is something to see.
            assert_eq!(
                seen.contains("seen /proc/1/exe"),
                flags.contains(&"--init"),
                "{told}"
            );
            assert_eq!(state(&host.program), host.before, "{told}");
        }
    }
}

/// As an image of ddock would have it: the first process of a container, by a name that it has there.
#[test]
fn the_first_process_of_a_container_may_be_a_ddock_of_its_own() {
    for host in Host::both(|tree| tree) {
        let volume = format!("{}:/usr/bin/ddock:ro", host.program.display());
        let output = host.ddock.run(&[
            "run",
            "--rm",
            "-v",
            &volume,
            &host.image,
            "/usr/bin/ddock",
            "version",
        ]);
        assert!(
            output.stdout.contains(env!("CARGO_PKG_VERSION")),
            "{}: {}",
            host.who,
            output.text()
        );
    }
    let (ddock, image) = Ddock::with_busybox();
    for flags in [
        &["-pf"][..],
        &["-pf", "--kill-child"],
        &["-pf", "--mount-proc"],
    ] {
        let run = ddock.command(&["run", "--rm", "--network", "none", &image, "echo", "ran"]);
        let mut unshare = Command::new("unshare");
        unshare
            .args(flags)
            .arg(run.get_program())
            .args(run.get_args())
            .env("DDOCK_ROOT", ddock.root());
        let output = crate::harness::ddock::output(&mut unshare);
        assert!(
            !output.stderr.contains(REFUSED),
            "{flags:?}: {}",
            output.text()
        );
    }
}
