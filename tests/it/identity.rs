//! Who and where a command believes it is: names, groups, mask, time zone, environment, the user outside.

use std::os::unix::fs::MetadataExt;

use crate::harness::ddock::Ddock;
use crate::harness::image::busybox;
use crate::harness::user::User;

#[test]
fn the_domain_name_is_set_beside_the_hostname() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "hostname; cat /proc/sys/kernel/domainname";
    let flags = ["-h", "box", "--domainname", "example.org"];
    assert_eq!(ddock.sh(&flags, &image, script), "box\nexample.org\n");
    assert_eq!(ddock.sh(&["-h", "box"], &image, script), "box\n(none)\n");
    for (flags, text) in [
        (
            &["--uts=host", "--domainname=x"][..],
            "conflicting options: domainname and the UTS mode",
        ),
        (&["--domainname=a b"], "invalid domain name `a b`"),
    ] {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([&*image, "true"]);
        ddock.run(&args).exits(125).says(text);
    }
}

#[test]
fn groups_are_added_by_name_and_number() {
    let (ddock, image) = Ddock::with_busybox();
    for (flags, groups) in [
        (&["--group-add=wheel"][..], "0 10"),
        (&["-u=alice", "--group-add=1234"], "10 50 1000 1234"),
        (&["-u=1000:staff", "--group-add=wheel"], "10 50"),
        (&["-u=4242", "--group-add=alice"], "0 1000"),
    ] {
        let found = ddock.sh(flags, &image, "id -G");
        let mut found: Vec<u32> = found
            .split_whitespace()
            .map(|gid| gid.parse().unwrap())
            .collect();
        found.sort_unstable();
        let found: Vec<String> = found.iter().map(u32::to_string).collect();
        assert_eq!(found.join(" "), groups, "{flags:?}");
    }
    for (group, text) in [
        (
            "nope",
            "unable to find group nope: no matching entries in group file",
        ),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("keep-groups", "keep-groups"),
    ] {
        let flag = format!("--group-add={group}");
        ddock
            .run(&["run", "--rm", &flag, &image, "true"])
            .exits(125)
            .says(text);
    }
}

#[test]
fn a_group_that_an_ordinary_user_cannot_add_is_refused() {
    let ddock = Ddock::for_user(User::without_ranges());
    let image = ddock.pull(busybox());
    let args = ["run", "--rm", "--group-add=wheel", &image, "true"];
    ddock
        .run(&args)
        .exits(125)
        .says("group wheel cannot be added without root");
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    assert_eq!(ddock.sh(&["--group-add=wheel"], &image, "id -G"), "0 10\n");
}

#[test]
fn the_mask_and_the_time_zone_are_as_asked() {
    let (ddock, image) = Ddock::with_busybox();
    assert_eq!(
        ddock.sh(&["--umask=077"], &image, "umask; touch x; stat -c %a x"),
        "0077\n600\n"
    );
    let date = "busybox date -d @0 +%H";
    assert_eq!(ddock.sh(&["--tz=Asia/Tokyo"], &image, date), "09\n");
    assert_eq!(ddock.sh(&[], &image, date), "00\n");
    for (flag, text) in [
        ("--umask=8", "expected an octal number"),
        ("--umask=1000", "expected an octal number"),
        ("--tz=Nowhere/Land", "unknown time zone `Nowhere/Land`"),
        ("--tz=../../etc/passwd", "invalid time zone"),
    ] {
        ddock
            .run(&["run", "--rm", flag, &image, "true"])
            .exits(125)
            .says(text);
    }
}

#[test]
fn default_variables_are_unset_merged_and_taken_over() {
    let (ddock, image) = Ddock::with(busybox().config("Env", serde_json::json!(["A=a", "B=b"])));
    let run = |flags: &[&str]| {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([&*image, "/bin/env"]);
        let mut command = ddock.command(&args);
        command
            .env("MINE_1", "one")
            .env("MINE_2", "two")
            .env("A", "mine");
        let output = crate::harness::ddock::output(&mut command).exits(0);
        let mut lines: Vec<String> = output.lines().iter().map(|it| (*it).to_owned()).collect();
        lines.retain(|it| !it.starts_with("PATH=") && !it.starts_with("HOSTNAME="));
        lines.sort();
        lines.join(" ")
    };
    assert_eq!(run(&[]), "A=a B=b HOME=/root");
    assert_eq!(run(&["--unsetenv=A", "--unsetenv=HOME"]), "B=b");
    assert_eq!(run(&["--unsetenv-all", "-e", "A"]), "A=mine");
    assert_eq!(run(&["--env-merge=A=${A}:/x"]), "A=a:/x B=b HOME=/root");
    assert_eq!(
        run(&["-e", "MINE*"]),
        "A=a B=b HOME=/root MINE_1=one MINE_2=two"
    );
    let all = run(&["--env-host"]);
    assert!(
        all.contains("A=a B=b") && all.contains("HOME=/root MINE_1=one"),
        "{all}"
    );
}

#[test]
fn an_ordinary_user_can_be_himself_inside() {
    for user in [User::with_ranges(), User::without_ranges()] {
        let (uid, gid) = (user.uid, user.gid);
        let ddock = Ddock::for_user(user);
        let image = ddock.pull(busybox());
        let shared = ddock.root().parent().unwrap().join("shared");
        let script = "id -u; id -g; touch /data/made; stat -c %u:%g /data/made; grep CapEff /proc/self/status; \
            echo x > /etc/motd && echo written";
        std::os::unix::fs::chown(ddock.root().parent().unwrap(), Some(uid), Some(gid)).unwrap();
        fs_err::create_dir(&shared).unwrap();
        std::os::unix::fs::chown(&shared, Some(uid), Some(gid)).unwrap();
        let bind = format!("{}:/data", shared.display());
        for (flag, inside) in [
            ("--userns=keep-id", (uid, gid)),
            ("--userns=keep-id:uid=4242,gid=4343", (4242, 4343)),
        ] {
            let (uid_in, gid_in) = inside;
            let stdout = ddock.sh(&[flag, "-v", &bind], &image, script);
            let expected = format!(
                "{uid_in}\n{gid_in}\n{uid_in}:{gid_in}\nCapEff:\t0000000000000000\nwritten\n"
            );
            assert_eq!(stdout, expected, "{flag}");
            let made = fs_err::metadata(shared.join("made")).unwrap();
            assert_eq!((made.uid(), made.gid()), (uid, gid), "{flag}");
            fs_err::remove_file(shared.join("made")).unwrap();
        }
        assert_eq!(ddock.sh(&[], &image, "id -u"), "0\n");
    }
}

#[test]
fn user_namespaces_that_are_not_there_say_so() {
    let (ddock, image) = Ddock::with_busybox();
    for (mode, text) in [
        ("keep-id", "keep-id is only supported in rootless mode"),
        ("auto", "`--userns auto` is not there yet"),
        ("nomap", "`--userns nomap` is not there yet"),
        ("bogus", "--userns: invalid USER mode"),
        ("keep-id:uid=x", "--userns: invalid USER mode"),
    ] {
        let flag = format!("--userns={mode}");
        ddock
            .run(&["run", "--rm", &flag, &image, "true"])
            .exits(125)
            .says(text);
    }
    assert_eq!(ddock.sh(&["--userns=host"], &image, "id -u"), "0\n");
}
