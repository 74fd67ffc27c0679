//! `system df`: what takes the space, equal to what is on disk.

use crate::harness::ddock::Ddock;
use crate::harness::image::busybox;
use crate::harness::tree::Tree;

/// Returns a row's cells: columns are at least three blanks apart.
fn cells(row: &str) -> Vec<&str> {
    let cells = row.split("   ").map(str::trim);
    cells.filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn df_adds_up_what_is_here_and_what_nothing_needs() {
    let ddock = Ddock::new();
    let header = ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"];
    let empty = ddock.ok(&["system", "df"]);
    assert_eq!(cells(empty.lines().next().unwrap()), header);
    assert_eq!(
        cells(empty.lines().nth(1).unwrap()),
        ["Images", "0", "0", "0B", "0B"]
    );

    let above = Tree::new().file("big", 0o644, vec![b'x'; 3_000_000]);
    let shared = ddock.pull(busybox());
    ddock.ok(&["tag", &shared, "base:1"]);
    let image = ddock.pull(busybox().layer(above));
    ddock.ok(&["tag", &image, "big:1"]);
    ddock.ok(&["untag", &image, &image]);
    let make = "dd if=/dev/zero of=/own bs=1000 count=500 2>/dev/null; dd if=/dev/zero of=/v/f bs=1000 count=700 2>/dev/null";
    ddock.ok(&[
        "run", "--name", "used", "-v", "named:/v", "base:1", "sh", "-c", make,
    ]);
    ddock.ok(&["volume", "create", "free"]);

    let table = ddock.ok(&["system", "df"]);
    let rows: Vec<Vec<&str>> = table.lines().map(cells).collect();
    // The container's image has the layer that both share.
    assert_eq!(rows[1][..3], ["Images", "2", "1"], "{table}");
    assert!(rows[1][4].starts_with("3MB ("), "{table}");
    assert_eq!(
        rows[2],
        ["Containers", "1", "0", "500kB", "500kB (100%)"],
        "{table}"
    );
    assert_eq!(
        rows[3],
        ["Local Volumes", "2", "1", "700kB", "0B (0%)"],
        "{table}"
    );
    assert_eq!(rows[4], ["Build Cache", "0", "0", "0B", "0B"], "{table}");

    let details = ddock.ok(&["system", "df", "-v"]);
    let row = |word: &str| {
        let line = details.lines().find(|line| line.contains(word));
        cells(line.unwrap_or_else(|| panic!("no {word}: {details}")))
    };
    assert_eq!(row("big ")[6..], ["3MB", "0"], "{details}");
    assert_eq!(row("base")[6..], ["0B", "1"], "{details}");
    assert_eq!(row("used")[2..4], ["1", "500kB"], "{details}");
    assert_eq!(row("named"), ["named", "1", "700kB"], "{details}");
}
