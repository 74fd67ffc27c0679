//! Networks on another kernel, and through the loss of all that a kernel knew: two virtual machines, one after the other.

use crate::vm::with_files;

/// A machine that loses its power with containers in two networks, and says what its disk has by then.
const BEFORE: &str = r#"
cd /root && export DDOCK_ROOT=/root/store HOME=/root
busybox httpd -p 127.0.0.1:5000 -h "$WWW"
image=127.0.0.1:5000/test/image:latest
"$DDOCK" pull -q $image >/dev/null
"$DDOCK" network create --subnet 10.9.0.0/24 own >/dev/null
"$DDOCK" run -d --name keeper --network own --ip 10.9.0.7 $image sleep 7777 >/dev/null 2>&1
"$DDOCK" run -d --rm --name gone $image sleep 7777 >/dev/null
echo "links:" $(ls /sys/class/net | grep -c '^ddock.*[.]')
echo "reached:" $("$DDOCK" run --rm --network own $image ping -c 1 -W 5 keeper | grep -o 'from 10.9.0.7')
echo "disk:"
tar -c store 2>/dev/null | gzip -c | base64
"#;

/// The same machine when it has power again.
const AFTER: &str = r#"
cd /root && export DDOCK_ROOT=/root/store HOME=/root
base64 -d "${WWW%/www}/disk" | gunzip -c | tar -x
image=127.0.0.1:5000/test/image:latest
echo "ended:" $("$DDOCK" ps -a | awk 'NR > 1 { print $NF }')
echo "links:" $(ls /sys/class/net | grep -c '^ddock')
echo "network:" $("$DDOCK" network ls | awk '$2 == "own" { print $3 }')
# The address is free again.
echo "again:" $("$DDOCK" run --rm --network own --ip 10.9.0.7 $image sh -c 'ping -c 1 -W 5 10.9.0.1 >/dev/null && ip -o address show dev eth0 | grep -o "10.9.0.7/24"' 2>/dev/null)
"$DDOCK" rm keeper >/dev/null
"$DDOCK" network prune -f >/dev/null
echo "left:" $(ls /sys/class/net | grep '^ddock'; "$DDOCK" network ls -q | wc -l)
"#;

#[test]
fn a_network_is_there_after_a_loss_of_power_and_nothing_of_its_containers() {
    let (said, errors) = with_files("v2", BEFORE, |_| {});
    let (before, disk) = said.split_once("disk:\n").expect(&errors);
    assert_eq!(before, "links: 2\nreached: from 10.9.0.7\n", "{errors}");
    let (said, errors) = with_files("v2", AFTER, |directory| {
        fs_err::write(directory.join("disk"), disk).unwrap();
    });
    let lines: Vec<&str> = said.lines().collect();
    let expected = [
        "ended: keeper",
        "links: 0",
        "network: bridge",
        "again: 10.9.0.7/24",
        "left: 3",
    ];
    assert_eq!(lines, expected, "{errors}");
}
