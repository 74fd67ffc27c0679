//! Eight loops of everything, while whatever is ddock's is killed and the disk is full at moments of chance: nobody fails
//! through another's container, each exit code that is told is right, and nothing is left.

mod storm;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use crate::harness::chance::Chance;
use crate::harness::ddock::{Ddock, Output};
use crate::harness::host::cgroups;
use crate::harness::image::{busybox, busybox_tree};
use crate::harness::registry::Registry;
use crate::harness::scratch::command_succeeds;
use crate::harness::tree::Tree;
use crate::harness::wait_for;
use storm::{Begun, LOOPS, Storm, descendants_but};

/// Bytes of the disk: room for the images several times.
const DISK: u64 = 96 << 20;

#[test]
fn nothing_is_wrong_after_a_quarter_of_a_minute_of_chaos() {
    rage(Duration::from_secs(15));
}

#[test]
#[ignore = "takes ten minutes: scripts/test --long"]
fn nothing_is_wrong_after_ten_minutes_of_chaos() {
    rage(Duration::from_mins(10));
}

/// Names the seed when its run fails.
struct Replay(u64);

impl Drop for Replay {
    #[expect(clippy::print_stderr, reason = "a test's own output")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run it again with DDOCK_CHAOS_SEED={}", self.0);
        }
    }
}

fn seed() -> u64 {
    if let Ok(seed) = std::env::var("DDOCK_CHAOS_SEED") {
        return seed.parse().unwrap();
    }
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    now.as_secs() << 10 | u64::from(now.subsec_millis())
}

/// Makes a small disk and mounts it; it goes with the test's directory.
fn small_disk(ddock: &Ddock) -> PathBuf {
    let file = ddock.scratch().join("disk");
    fs_err::File::create(&file).unwrap().set_len(DISK).unwrap();
    command_succeeds(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&file));
    let place = ddock.scratch().dir("mounted");
    command_succeeds(
        Command::new("mount")
            .args(["-o", "loop"])
            .args([&file, &place]),
    );
    place
}

fn push_images(registry: &Registry) -> Vec<String> {
    let large = |name: &str, seed| {
        let noise = Chance::new(seed).noise(2 << 20);
        busybox_tree().file(name, 0o644, noise)
    };
    let one = busybox().layer(Tree::new().file("one", 0o644, "1"));
    let two = busybox()
        .layer(large("large", 1))
        .layer(Tree::new().file("two", 0o644, "2"));
    let three = busybox().layer(large("large", 1)).layer(large("larger", 2));
    let images = [("one:1", one), ("two:2", two), ("three:3", three)];
    let images = images.into_iter();
    images
        .map(|(name, image)| registry.push(name, &image.build()))
        .collect()
}

fn rage(lasts: Duration) {
    let seed = seed();
    let _replay = Replay(seed);
    let mut ddock = Ddock::new();
    let disk = small_disk(&ddock);
    ddock.move_root(disk.join("store"));
    let registry = Registry::start();
    let images = push_images(&registry);
    for image in &images {
        ddock.ok(&["pull", "-q", image]);
    }
    ddock.ok(&["network", "create", "shared"]);
    let storm = Storm::new(ddock, &disk, lasts);
    let (done, killed) = std::thread::scope(|scope| {
        let chance = |of: &str| Chance::of(seed, of, 0);
        let (storm, images) = (&storm, &images);
        let killer = scope.spawn(move || storm.kill_now_and_then(chance("kills")));
        scope.spawn(move || storm.fill_now_and_then(chance("tides")));
        let loops: Vec<_> = (0..LOOPS)
            .map(|number| {
                let chance = chance(&format!("loop {number}"));
                scope.spawn(move || Loop::new(storm, number, images, chance).work())
            })
            .collect();
        let done = loops
            .into_iter()
            .map(|it| it.join().unwrap_or(0))
            .sum::<u64>();
        (done, killer.join().unwrap())
    });
    assert!(!storm.has_failed.load(Ordering::Relaxed), "see above");
    tell(&format!("{done} operations, {killed} kills, seed {seed}"));
    assert!(done > 20 && killed > 10, "{done} {killed}");
    check_the_end(&storm, &registry, &images);
}

#[expect(clippy::print_stdout, reason = "what there was is of interest")]
fn tell(what: &str) {
    println!("{what}");
}

/// Looks that all works, that all can be removed, and that nothing is left.
fn check_the_end(storm: &Storm, registry: &Registry, images: &[String]) {
    let ddock = &storm.ddock;
    for image in images {
        ddock.ok(&["pull", "-q", image]);
        assert_eq!(ddock.sh(&[], image, "echo works"), "works\n");
    }
    ddock.ok(&["system", "check"]);
    ddock.ok(&["rm", "-f", "-a"]);
    ddock.ok(&["volume", "prune", "-af"]);
    ddock.ok(&["network", "prune", "-f"]);
    ddock.ok(&[
        &["rmi", "-f"][..],
        &images.iter().map(String::as_str).collect::<Vec<_>>(),
    ]
    .concat());
    for id in storm.ids.lock().unwrap().iter() {
        assert_eq!(cgroups(id), [""; 0], "cgroups");
    }
    let server = registry.pid();
    wait_for("all processes to be gone", || {
        storm.reap();
        descendants_but(server).is_empty().then_some(())
    });
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
    let disk = ddock.scratch().join("mounted");
    let own = |line: &&str| line.contains(ddock.scratch().path().to_str().unwrap());
    let mounts: Vec<_> = mounts.lines().filter(own).collect();
    assert_eq!(mounts.len(), 1, "{}: {mounts:#?}", disk.display());
    let links = command_succeeds(Command::new("ip").args(["-br", "link"]));
    assert!(!links.contains('@'), "{links}");
    for place in [
        "containers",
        "alive",
        "names",
        "volumes",
        "networks",
        "tmp",
        "leases",
    ] {
        assert_eq!(
            names(&ddock.root().join("v1").join(place)),
            [""; 0],
            "{place}"
        );
    }
    for place in ["images", "layers", "chains", "blobs/sha256"] {
        assert_eq!(
            names(&ddock.root().join("v1").join(place)),
            [""; 0],
            "{place}"
        );
    }
}

fn names(place: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(place).map(Iterator::collect::<Vec<_>>);
    let entries = entries.unwrap_or_default().into_iter();
    entries
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Somebody who does one thing after another with containers, a network and a volume of his own.
struct Loop<'a> {
    storm: &'a Storm,
    number: usize,
    images: &'a [String],
    chance: Chance,
    done: u64,
}

/// What was done, for who reads of a fault.
type Doing<'a> = &'a str;

impl<'a> Loop<'a> {
    fn new(storm: &'a Storm, number: usize, images: &'a [String], chance: Chance) -> Self {
        Loop {
            storm,
            number,
            images,
            chance,
            done: 0,
        }
    }

    fn work(mut self) -> u64 {
        while self.storm.goes_on() {
            let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.step()));
            if let Err(fault) = tried {
                self.storm.has_failed.store(true, Ordering::Relaxed);
                std::panic::resume_unwind(fault);
            }
            self.done += 1;
        }
        self.done
    }

    fn step(&mut self) {
        match self.chance.below(10) {
            0..3 => self.run_in_the_foreground(),
            3..7 => self.run_detached(),
            7 => self.pull(),
            8 => self.remove_an_image(),
            _ => self.look_around(),
        }
    }

    fn name(&self) -> String {
        format!("chaos-{}-{}", self.number, self.done)
    }

    fn ask(&self, args: &[&str]) -> Output {
        self.storm.ask(self.number, args)
    }

    /// Returns flags of chance for `run`.
    fn flags(&mut self) -> Vec<String> {
        let own = format!("own-{}", self.number);
        let mut flags = Vec::new();
        match self.chance.below(4) {
            0 => flags.extend(["-v".to_owned(), format!("{own}:/data")]),
            1 => flags.extend(["-v".to_owned(), "/anonymous".to_owned()]),
            _ => {}
        }
        match self.chance.below(6) {
            0 => flags.extend(["--network".to_owned(), "shared".to_owned()]),
            1 => flags.extend(["--network".to_owned(), "none".to_owned()]),
            2 => flags.extend(["-p".to_owned(), "80".to_owned()]),
            _ => {}
        }
        flags
    }

    /// Fails unless it was excused: something of this loop's was killed, or the disk was full and that is what it says.
    fn excuse(&self, begun: Begun, doing: Doing<'_>, said: &Output) {
        if !self.storm.is_unhurt(self.number, begun) {
            return;
        }
        // Another loop has removed the image in between.
        if said.stderr.contains("No such image") {
            return;
        }
        // The last is overlayfs's word where it cannot make its own directory.
        let words = ["No space left", "are free", "Read-only file system"];
        let is_of_space = words.iter().any(|it| said.stderr.contains(it));
        assert!(
            !self.storm.had_room(begun) && is_of_space,
            "loop {}, {doing}: {}",
            self.number,
            said.text()
        );
    }

    fn run_in_the_foreground(&mut self) {
        let (name, image) = (self.name(), self.image());
        let code = self.chance.pick(&[0, 3, 77]);
        let flags = self.flags();
        let begun = self.storm.begin(self.number);
        let script = format!("echo said; exit {code}");
        let mut args = vec!["run", "--rm", "--name", &name];
        args.extend(flags.iter().map(String::as_str));
        args.extend([&image, "sh", "-c", &script]);
        let said = self.ask(&args);
        if said.code != code || said.stdout != "said\n" {
            self.excuse(begun, &format!("{args:?}"), &said);
        }
        self.remove(&name);
    }

    fn run_detached(&mut self) {
        let (name, image) = (self.name(), self.image());
        let code = self.chance.pick(&[0, 5, 99]);
        let flags = self.flags();
        let begun = self.storm.begin(self.number);
        let tenths = self.chance.below(8);
        let script = format!("echo said; sleep 0.{tenths}; exit {code}");
        let mut args = vec!["run", "-d", "--name", &name];
        args.extend(flags.iter().map(String::as_str));
        args.extend([&image, "sh", "-c", &script]);
        let said = self.ask(&args);
        if said.code == 0 {
            self.follow(&name, code, begun);
        } else {
            self.excuse(begun, &format!("{args:?}"), &said);
        }
        self.remove(&name);
    }

    /// Does something with a container that runs, or has ended by now, and asks how it ended.
    fn follow(&mut self, name: &str, code: i32, begun: Begun) {
        let mut codes = vec![code];
        let deed: &[&str] = match self.chance.below(7) {
            0 => &["stop", "-t", "0"],
            1 => &["kill"],
            2 => &["logs", "-f"],
            3 => &["attach", "--no-stdin"],
            4 => &["inspect"],
            5 => &["network", "connect", "shared"],
            _ => &["wait"],
        };
        let doing = [deed, &[name]].concat();
        let said = self.ask(&doing);
        let may_fail = match deed[0] {
            "stop" => {
                codes.push(137);
                false
            }
            // It has ended by now, or is in no network, or in that one already.
            "kill" => {
                codes.push(137);
                said.stderr.contains("is not running")
            }
            "network" => true,
            "attach" => said.code == code || said.stderr.contains("stopped container"),
            _ => false,
        };
        if said.code != 0 && !may_fail {
            self.excuse(begun, &format!("{doing:?}"), &said);
        }
        let waited = self.ask(&["wait", name]);
        let told = waited.stdout.trim().parse();
        let is_right = told.as_ref().is_ok_and(|told| codes.contains(told));
        if waited.code != 0 || !is_right {
            self.excuse_death(
                begun,
                &format!("wait {name} after {doing:?}, {codes:?}"),
                &waited,
            );
        }
        let logged = self.ask(&["logs", name]);
        let may_be_silent = codes.len() > 1;
        if logged.code != 0 || logged.stdout != "said\n" && !may_be_silent {
            // A full disk may have taken it.
            let is_unhurt = self.storm.is_unhurt(self.number, begun);
            let is_wrong = is_unhurt && self.storm.had_room(begun);
            assert!(!is_wrong, "logs {name} {codes:?}: {}", logged.text());
        }
    }

    /// Fails unless something of this loop's was killed. A full disk is no excuse: it takes no container's end, and what there
    /// is on it can be listed and removed.
    fn excuse_death(&self, begun: Begun, doing: Doing<'_>, said: &Output) {
        let is_hurt = !self.storm.is_unhurt(self.number, begun);
        assert!(is_hurt, "{doing}: {}", said.text());
    }

    /// Removes a container, which must be possible whatever happened to it, on a full disk too.
    fn remove(&self, name: &str) {
        let begun = self.storm.begin(self.number);
        let said = self.ask(&["rm", "-f", "-v", name]);
        let is_gone = said.code == 0;
        let is_hurt = !self.storm.is_unhurt(self.number, begun);
        let is_full = !self.storm.had_room(begun);
        assert!(
            is_gone || is_hurt || is_full,
            "rm -f {name}: {}",
            said.text()
        );
    }

    fn image(&mut self) -> String {
        self.images[self.chance.below(self.images.len())].clone()
    }

    fn pull(&mut self) {
        let image = self.image();
        let begun = self.storm.begin(self.number);
        let said = self.ask(&["pull", "-q", &image]);
        if said.code != 0 {
            self.excuse(begun, &format!("pull {image}"), &said);
        }
    }

    fn remove_an_image(&mut self) {
        let image = self.image();
        let begun = self.storm.begin(self.number);
        let said = self.ask(&["rmi", &image]);
        let is_in_use = said.stderr.contains("conflict: ");
        let is_gone = said.stderr.contains("No such image");
        if said.code != 0 && !is_in_use && !is_gone {
            self.excuse_death(begun, &format!("rmi {image}"), &said);
        }
    }

    fn look_around(&mut self) {
        let own = format!("own-{}", self.number);
        let commands: &[&[&str]] = &[
            &["ps", "-a"],
            &["images"],
            &["volume", "ls"],
            &["network", "ls"],
            &["volume", "create", &own],
            &["volume", "rm", "-f", &own],
            &["network", "create", &own],
            &["network", "rm", &own],
        ];
        let command = self.chance.pick(commands);
        let begun = self.storm.begin(self.number);
        let said = self.ask(command);
        let is_known = said.stderr.contains("already exists")
            || said.stderr.contains("not found")
            || said.stderr.contains("in use");
        if said.code != 0 && !is_known {
            let doing = format!("{command:?}");
            match command[1..] {
                ["create", _] => self.excuse(begun, &doing, &said),
                _ => self.excuse_death(begun, &doing, &said),
            }
        }
    }
}
