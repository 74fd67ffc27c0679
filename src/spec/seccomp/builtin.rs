//! Docker's default profile (moby/profiles, `seccomp/default.json`), compiled in: nothing is read to start a container.
//!
//! `tests.rs` holds it against the published file. The names are texts, each a word: an array of them would have to be
//! relocated whenever ddock starts.

use crate::spec::capabilities::{DEFAULT, Names};
use crate::spec::seccomp::{Facts, Machine};
use serde_json::{Value, json};

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    /// ENOSYS, so that programs take an older call.
    Missing,
}

/// Whom a rule is for.
#[derive(Debug, Clone, Copy)]
enum For {
    Everybody,
    KernelsSince(u32, u32),
    /// Containers with this capability.
    Having(&'static str),
    /// Containers without it.
    Lacking(&'static str),
    /// Machines, in Go's words.
    On(&'static [&'static str]),
}

/// A condition on an argument: its index, how it is compared, with what.
type Condition = (u8, &'static str, u32);

struct Rule {
    names: &'static str,
    action: Action,
    /// Any of these must hold; none: always.
    conditions: &'static [Condition],
    audience: For,
}

const fn allow(audience: For, names: &'static str) -> Rule {
    Rule {
        names,
        action: Action::Allow,
        conditions: &[],
        audience,
    }
}

const fn missing(audience: For, names: &'static str) -> Rule {
    Rule {
        action: Action::Missing,
        ..allow(audience, names)
    }
}

const fn allow_if(names: &'static str, conditions: &'static [Condition]) -> Rule {
    Rule {
        conditions,
        ..allow(For::Everybody, names)
    }
}

/// `CLONE_NEW*`, all but `CLONE_NEWTIME` (sched.h): a namespace of its own is for those who could unshare(2) it.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// Families of sockets that the kernel still has, but `AF_ALG` (38) and `AF_VSOCK` (40): the first gives every user the
/// kernel's cryptography to attack (CVE-2026-31431), the second leads past network namespaces to other machines.
#[rustfmt::skip]
const FAMILIES: &[Condition] = &[
    (0, "LT", 12), (0, "EQ", 13), (0, "EQ", 14), (0, "EQ", 15), (0, "EQ", 16), (0, "EQ", 17), (0, "EQ", 18),
    (0, "EQ", 21), (0, "EQ", 22), (0, "EQ", 24), (0, "EQ", 26), (0, "EQ", 27), (0, "EQ", 28), (0, "EQ", 29),
    (0, "EQ", 30), (0, "EQ", 31), (0, "EQ", 32), (0, "EQ", 33), (0, "EQ", 35), (0, "EQ", 36), (0, "EQ", 39),
    (0, "EQ", 41), (0, "EQ", 42), (0, "EQ", 43), (0, "EQ", 44), (0, "EQ", 45),
];

/// `PER_LINUX`, `PER_LINUX32`, `UNAME26`, both, and to ask (personality(2)).
#[rustfmt::skip]
const PERSONALITIES: &[Condition] =
    &[(0, "EQ", 0), (0, "EQ", 8), (0, "EQ", 0x20000), (0, "EQ", 0x20008), (0, "EQ", u32::MAX)];

const ADMIN: &str = "CAP_SYS_ADMIN";

#[rustfmt::skip]
const RULES: &[Rule] = &[
    allow(For::Everybody, HARMLESS),
    // Ours, and stricter than Docker's: which family of sockets a 32-bit program asks for by this call lies behind a
    // pointer, where no filter can look, and so the families below could be had. Not for SYS_SOCKET alone: libseccomp
    // allows that on its own when there is a rule for socket(2), and runc shall make the same of our bundle.
    missing(For::Everybody, "socketcall"),
    allow(For::KernelsSince(4, 8), "process_vm_readv process_vm_writev ptrace"),
    allow_if("socket", FAMILIES),
    allow_if("personality", PERSONALITIES),
    allow(
        For::On(&["arm", "arm64"]),
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    allow(For::On(&["amd64", "x32"]), "arch_prctl"),
    allow(For::On(&["amd64", "x32", "x86"]), "modify_ldt"),
    allow(For::Having("CAP_DAC_READ_SEARCH"), "open_by_handle_at"),
    allow(
        For::Having(ADMIN),
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    Rule { audience: For::Lacking(ADMIN), ..allow_if("clone", &[(0, "MASKED_EQ", NEW_NAMESPACES)]) },
    // Its flags lie behind a pointer: programs take clone(2) instead.
    missing(For::Lacking(ADMIN), "clone3"),
    allow(For::Having("CAP_SYS_BOOT"), "reboot"),
    allow(For::Having("CAP_SYS_CHROOT"), "chroot"),
    allow(For::Having("CAP_SYS_MODULE"), "delete_module init_module finit_module"),
    allow(For::Having("CAP_SYS_PACCT"), "acct"),
    allow(
        For::Having("CAP_SYS_PTRACE"),
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    allow(For::Having("CAP_SYS_RAWIO"), "iopl ioperm"),
    allow(For::Having("CAP_SYS_TIME"), "settimeofday stime clock_settime clock_settime64"),
    allow(For::Having("CAP_SYS_TTY_CONFIG"), "vhangup"),
    allow(For::Having("CAP_SYS_NICE"), "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    allow(For::Having("CAP_SYSLOG"), "syslog"),
    allow(For::Having("CAP_BPF"), "bpf"),
    allow(For::Having("CAP_PERFMON"), "perf_event_open"),
];

/// What most containers have besides the default capabilities.
const USUAL: Facts = Facts {
    machine: Machine::X86_64,
    kernel: (4, 8),
};

/// Tells whether the same rules hold as for the default capabilities, whose filter is `runtime::COMPILED_PROFILE`.
pub(super) fn is_usual(capabilities: &Names, facts: Facts) -> bool {
    let usual = Names::from(DEFAULT);
    facts.machine == USUAL.machine
        && RULES.iter().all(|rule| {
            let audience = rule.audience;
            audience.includes(capabilities, facts) == audience.includes(&usual, USUAL)
        })
}

/// Returns `linux.seccomp` of the spec for a container with `capabilities`.
pub(super) fn filter(capabilities: &Names, facts: Facts) -> Value {
    let rules = RULES
        .iter()
        .filter(|rule| rule.audience.includes(capabilities, facts));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": facts.machine.architectures(),
        "syscalls": rules.flat_map(Rule::to_json).collect::<Value>(),
    })
}

impl For {
    fn includes(self, capabilities: &Names, facts: Facts) -> bool {
        match self {
            Self::Everybody => true,
            Self::KernelsSince(major, minor) => facts.kernel >= (major, minor),
            Self::Having(capability) => capabilities.contains(capability),
            Self::Lacking(capability) => !capabilities.contains(capability),
            Self::On(machines) => machines.contains(&facts.machine.in_go()),
        }
    }
}

impl Rule {
    /// Several conditions on one argument are a rule each: runtimes disagree on what they would mean together.
    fn to_json(&self) -> Vec<Value> {
        let mut rule = json!({ "names": self.names.split_whitespace().collect::<Value>() });
        match self.action {
            Action::Allow => rule["action"] = json!("SCMP_ACT_ALLOW"),
            Action::Missing => {
                rule["action"] = json!("SCMP_ACT_ERRNO");
                rule["errnoRet"] = json!(libc::ENOSYS);
            }
        }
        if self.conditions.is_empty() {
            return vec![rule];
        }
        let conditions = self.conditions.iter().map(|(index, operator, value)| {
            let mut rule = rule.clone();
            let operator = format!("SCMP_CMP_{operator}");
            rule["args"] = json!([{ "index": index, "value": value, "op": operator }]);
            rule
        });
        conditions.collect()
    }
}

/// What any program may need and what the kernel guards itself.
const HARMLESS: &str = "\
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat
faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer
getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr
getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents
io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier
memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr
mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal
msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open
openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev
pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages
removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg
sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority
setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid
setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
sigaltstack signalfd signalfd4 sigprocmask sigreturn socketpair splice stat stat64 statfs statfs64 statmount statx
symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe
utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";
