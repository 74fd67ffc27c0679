// Starts a command with all that a process hands to its children and a daemon's containers have not; without a command it
// tells what it has of that itself.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

// linux/ioprio.h and linux/mempolicy.h, which Debian keeps in a package of its own.
enum { WHO_PROCESS = 1, IDLE = 3 << 13, PREFERRED = 1 };
// linux/securebits.h
enum { NO_SETUID_FIXUP = 1 << 2 };

static void write_to(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, text, strlen(text)) < 0) perror(path);
    close(file);
}

static void tell_of(const char *path) {
    char text[64] = "";
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, text, sizeof text - 1) < 0) perror(path);
    printf("%s %s", strrchr(path, '/') + 1, text);
    close(file);
}

static int tell(void) {
    struct sched_param parameter;
    int policy = -1;
    sched_getparam(0, &parameter);
    syscall(SYS_get_mempolicy, &policy, 0, 0, 0, 0);
    cpu_set_t processors;
    sched_getaffinity(0, sizeof processors, &processors);
    printf("personality %x\n", personality(0xffffffff));
    printf("nice %d\n", getpriority(PRIO_PROCESS, 0));
    printf("scheduler %d\n", sched_getscheduler(0));
    printf("ioprio %ld\n", syscall(SYS_ioprio_get, WHO_PROCESS, 0) >> 13);
    printf("mempolicy %d\n", policy);
    printf("processors %s\n", CPU_COUNT(&processors) == 1 ? "one" : "all");
    printf("timerslack %d\n", prctl(PR_GET_TIMERSLACK));
    printf("thp %d\n", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    printf("securebits %d\n", prctl(PR_GET_SECUREBITS));
    printf("privileges %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    tell_of("/proc/self/oom_score_adj");
    return 0;
}

int main(int count, char **words) {
    if (count < 2) return tell();
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof first, &first);
    setpriority(PRIO_PROCESS, 0, 7);
    struct sched_param none = { 0 };
    sched_setscheduler(0, SCHED_BATCH, &none);
    syscall(SYS_ioprio_set, WHO_PROCESS, 0, IDLE);
    unsigned long node = 1;
    syscall(SYS_set_mempolicy, PREFERRED, &node, 2);
    prctl(PR_SET_TIMERSLACK, 1000000);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    personality(PER_LINUX32 | ADDR_NO_RANDOMIZE);
    write_to("/proc/self/oom_score_adj", "500");
    // An ordinary user may not, and does not hand it to a user namespace either.
    prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP);
    if (getenv("NO_NEW_PRIVILEGES")) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    execvp(words[1], words + 1);
    perror(words[1]);
    return 126;
}
