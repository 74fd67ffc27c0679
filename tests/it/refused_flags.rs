//! A flag that makes no sense is refused at once: before anything is pulled, swept or made.

use std::time::{Duration, Instant};

use crate::harness::canned::{Canned, Reply};
use crate::harness::ddock::Ddock;

/// How long a refusal may take, and how often it is tried on a machine that has other things to do.
const MOST: Duration = Duration::from_millis(50);
const TRIES: usize = 20;

/// Flags of `run`, one a line, and the words by which each is refused.
const BAD: &str = r#"--ulimit nofile|invalid ulimit argument: nofile
--ulimit bogus=5|invalid ulimit type: bogus
--ulimit nofile=10:5|ulimit soft limit must be less than or equal to hard limit: 10 > 5
--mount type=bind,rw|invalid field 'rw' must be a key=value pair
--mount type=foo,dst=/t|mount type unknown
--mount dst=t|mount path must be absolute
-v /a:t|mount path must be absolute
-v /a:/t:rx|invalid mode: rx
-v a:/t|volume name is too short
-v /tmp:/x --tmpfs /x|Duplicate mount point: /x
--volumes-from other:rx|invalid mode: rx
--tmpfs /t:bogus|there is no tmpfs option `bogus`
--tmpfs /proc/x|`/proc` is the container's own
--sysctl kernel.hostname=x|sysctl 'kernel.hostname=x' is not allowed
--sysctl net.core.somaxconn=5 --network host|is not allowed in the host network namespace
--device /dev/null:/dev/x:q|bad mode specified: q
--device dev/null|dev/null is not an absolute path
--device /dev/absent|no such file or directory
--device-cgroup-rule x|invalid device cgroup format 'x'
--security-opt bogus|invalid --security-opt `bogus`
--security-opt no-new-privileges=2|it is either `true` or `false`
--security-opt seccomp=/absent.json|opening the seccomp profile
--security-opt seccomp=/dev/null|invalid seccomp profile `/dev/null`
--user 99999999999|uids and gids must be in range
--user 0:-1|uids and gids must be in range
--group-add 99999999999|uids and gids must be in range
--memory x|expected a size
--memory 1m|Minimum memory limit allowed is 6MB
--memory 64m --memory-swap 32m|Minimum memoryswap limit should be larger than memory limit
--memory-reservation 1m|Minimum memory reservation allowed is 6MB
--memory-swappiness 101|Valid memory swappiness range is 0-100
--oom-score-adj 1001|range for oom score adj is [-1000, 1000]
--cpus x|expected a number
--cpus 100000|range of CPUs is from 0.01
--cpus 1 --cpu-period 5000|Nano CPUs and CPU Period cannot both be set
--cpu-period 5|CPU cfs period can not be less than 1ms
--cpu-shares 1|the minimum allowed cpu-shares is 2
--cpuset-cpus x|Invalid value x for cpuset cpus
--cpuset-cpus 99|Requested CPUs are not available
--pids-limit x|--pids-limit
--blkio-weight 5|Range of blkio weight is from 10 to 1000
--device-read-bps x:1|bad format for device path
--cap-add NOPE|unknown capability `NOPE`
--cap-drop NOPE|unknown capability `NOPE`
--cap-add ALL --cap-drop ALL|adding and dropping all capabilities at once
-p x|invalid publish `x`
-p 80/bogus|80/bogus
--expose x|invalid port `x`
--env-file /absent.env|/absent.env
-e =x|invalid environment variable: =x
--env-merge x|invalid environment variable: x
--label =x|invalid label '=x': empty name
--label-file /absent|reading labels
--annotation =x|empty name
--log-driver bogus|`--log-driver bogus` is not there yet
--log-opt bogus=1|unknown log opt 'bogus'
--log-opt max-size=x|expected a size
--restart bogus|--restart
--stop-signal BOGUS|invalid signal: BOGUS
--stop-timeout x|--stop-timeout
--hostname a%b%c|invalid hostname
-w app|the working directory 'app' is invalid
--name -x|Invalid container name (-x)
--network name=a,b|invalid field b
--network a --network host|cannot attach both user-defined and non-user-defined network-modes
--ip 1.2.3.4|user specified IP address is supported on user defined networks only
--ip x|invalid IPv4 address: x
--mac-address x|x is not a valid mac address
--dns x|--dns
--add-host x|bad format for add-host
--pid bogus|--pid: invalid PID mode
--ipc bogus|Invalid IPC mode: bogus
--uts bogus|--uts: invalid UTS mode
--uts host -h x|conflicting options: hostname and the UTS mode
--cgroupns bogus|--cgroupns: invalid CGROUP mode
--userns bogus|--userns: invalid USER mode
--umask 9|expected an octal number
--shm-size x|expected a size
--platform a/b/c/d|invalid platform
--pull sometimes|expected always, missing, never
--isolation hyperv|Invalid isolation: "hyperv"
--cidfile /proc/absent|creating the container ID file"#;

#[test]
fn a_flag_that_makes_no_sense_is_refused_before_anything_is_pulled() {
    let registry = Canned::serve(|_| Reply::new(404, ""));
    let image = registry.reference("test/absent:latest");
    let ddock = Ddock::new();
    for line in BAD.lines() {
        let (flags, words) = line.split_once('|').unwrap();
        let flags = flags.split(' ').map(|word| word.replace('%', " "));
        let flags: Vec<String> = flags.collect();
        let mut arguments = vec!["run", "--rm"];
        arguments.extend(flags.iter().map(String::as_str));
        arguments.extend([&image, "true"]);
        let refuse = || {
            let begun = Instant::now();
            ddock.run(&arguments).exits(125).says(words);
            begun.elapsed()
        };
        let fastest = (0..TRIES).map(|_| refuse()).find(|time| *time < MOST);
        assert!(fastest.is_some(), "`{line}` is refused late");
    }
    assert!(registry.requests().is_empty(), "the registry was asked");
    assert!(!ddock.root().exists(), "a store was made");
}
