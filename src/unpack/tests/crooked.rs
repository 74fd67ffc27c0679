//! Crooked archives: what readers of tars disagree on, what makes no sense, what is cut off, what never ends.

use crate::unpack::testing::{Scene, Tar, check, options, pax_record};
use crate::unpack::{Limits, Options};

#[test]
fn what_readers_of_tars_disagree_on_is_refused() {
    check(&[
        ("two long names", "two long names", &|_| {
            Tar::new().long_name("a").long_name("b").file("x", "")
        }),
        ("two extended headers", "two extended headers", &|_| {
            Tar::new()
                .pax(&[("path", b"a")])
                .pax(&[("path", b"b")])
                .file("x", "")
        }),
        ("GNU and PAX names", "two different names", &|_| {
            Tar::new()
                .pax(&[("path", b"a")])
                .long_name("b")
                .file("x", "")
        }),
        (
            "a global path",
            "global extended header sets `path`",
            &|_| {
                let record = pax_record("path", b"a");
                Tar::new().entry(b'g', "g", &record, |_| {}).file("x", "")
            },
        ),
        ("a header without an entry", "no entry after it", &|_| {
            Tar::new().pax(&[("path", b"a")])
        }),
        (
            "a file named like a directory",
            "name of a directory",
            &|_| Tar::new().file("d/", ""),
        ),
        ("unknown type", "type `Z` is not known", &|_| {
            Tar::new().entry(b'Z', "x", b"", |_| {})
        }),
        ("multi-volume", "type `M` is not known", &|_| {
            Tar::new().entry(b'M', "x", b"", |_| {})
        }),
        ("a lone block of zeros", "block of zeros", &|_| {
            Tar::new().file("x", "").raw(&[0; 512]).file("y", "")
        }),
    ]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    check(&[
        ("negative size", "entry `x`: its size is negative", &|_| {
            Tar::new().pax(&[("size", b"-1")]).file("x", "")
        }),
        ("an unknown sparse version", "not known", &|_| {
            Tar::new()
                .pax(&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")])
                .file("x", "")
        }),
        ("a sparse directory", "sparse, and no file", &|_| {
            Tar::new()
                .pax(&[("GNU.sparse.map", b"0,0"), ("GNU.sparse.numblocks", b"1")])
                .directory("x")
        }),
        ("sparse in star's way", "not known", &|_| {
            Tar::new().entry(b'S', "x", b"", |_| {})
        }),
        ("a bad checksum", "checksum", &|_| {
            Tar::new().raw(&[b'a'; 512])
        }),
    ]);
}

#[test]
fn what_is_cut_off_is_refused() {
    let whole = Tar::new().file("x", [b'x'; 1000]).finish();
    for length in [1, 511, 513, 1000, 1500] {
        let scene = Scene::new();
        let error = format!("{:#}", scene.unpack(&whole[..length]).unwrap_err());
        assert!(error.contains("ends too early"), "{length}: {error}");
    }
    // Go does not mind if the padding, or the blocks of zeros, are missing.
    for length in [1512, 1536, 1536 + 512] {
        let scene = Scene::new();
        scene.unpack(&whole[..length]).unwrap();
        let content = fs_err::read(scene.root().join("x")).unwrap();
        assert_eq!(content, [b'x'; 1000], "{length}");
    }
}

#[test]
fn floods_end_at_a_limit() {
    let huge = |kind: u8| {
        move |_: &str| Tar::new().entry(kind, "x", b"", |header| header.set_size(1 << 40))
    };
    check(&[
        ("huge extended header", "longer than 1 MiB", &huge(b'x')),
        ("huge global header", "longer than 1 MiB", &huge(b'g')),
        ("huge long name", "longer than 1 MiB", &huge(b'L')),
        ("huge long link", "longer than 1 MiB", &huge(b'K')),
        ("1 TiB that is not there", "ends too early", &huge(b'0')),
    ]);
    let limits = Limits {
        entries: 10,
        directory_memory: 1000,
        tar_size: Some(20_000),
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..options()
    };
    let many = (0..11).fold(Tar::new(), |tar, at| tar.file(at.to_string(), ""));
    let globals = (0..11).fold(Tar::new(), |tar, _| tar.entry(b'g', "g", b"", |_| {}));
    for (tar, rule) in [
        (many, "more than 10 entries"),
        (globals, "more than 10 entries"),
        (
            Tar::new().long_name("d/".repeat(40) + "f").file("x", ""),
            "too many directories",
        ),
        (
            Tar::new().file("x", vec![0; 20_000]),
            "more than 20000 bytes",
        ),
    ] {
        let scene = Scene::new();
        let error = scene.unpack_with(&tar.finish(), &options).unwrap_err();
        assert!(format!("{error:#}").contains(rule), "{error:#}");
    }
}
