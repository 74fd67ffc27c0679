// Asks the seccomp filters that lie over it about every system call, and makes none of them.
//
// A filter of its own, which has less to say than any other, stops what the others let through at a tracer; the tracer
// takes the call back and answers 99. So each call gets 99 where it is allowed, and else the error of who refused it.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ALLOWED = 99, NUMBERS = 600, X32 = 0x40000000 };

struct question { char abi; unsigned number; unsigned long first, second; };
static struct { int is_over; unsigned asked; struct { struct question question; int answer; } list[8192]; } *sheet;

static int native(struct question q) {
    long result;
    register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0, r9 __asm__("r9") = 0;
    __asm__ volatile("syscall" : "=a"(result)
        : "a"((long)q.number), "D"(q.first), "S"(q.second), "d"(0L), "r"(r10), "r"(r8), "r"(r9)
        : "rcx", "r11", "memory");
    return (int)-result;
}

static int old(struct question q) {
    long result;
    __asm__ volatile("push %%rbp; xor %%ebp, %%ebp; int $0x80; pop %%rbp" : "=a"(result)
        : "a"((long)q.number), "b"((long)(unsigned)q.first), "c"((long)(unsigned)q.second), "d"(0L), "S"(0L), "D"(0L)
        : "r8", "r9", "r10", "r11", "memory");
    return -(int)result;
}

static void ask(char abi, unsigned number, unsigned long first, unsigned long second) {
    struct question q = { abi, number, first, second };
    unsigned place = sheet->asked++;
    sheet->list[place].question = q;
    sheet->list[place].answer = abi == 'i' ? old(q) : native(q);
}

static void ask_all(char abi, unsigned offset, const unsigned *filtered) {
    // uretprobe and uprobe (335, 336) go past filters since Linux 6.14, and end who is no probe.
    for (unsigned number = 0; number < NUMBERS; number++)
        if (abi == 'i' || (number != 335 && number != 336)) ask(abi, offset + number, 0, 0);
    enum { SOCKET, PERSONALITY, CLONE, UNSHARE, SETNS, PTRACE, SOCKETCALL, IOCTL };
    for (unsigned long family = 0; family < 64; family++)
        for (unsigned long high = 0; high < 2; high++) ask(abi, offset + filtered[SOCKET], high << 32 | family, 1);
    static const unsigned long persons[] = { 0, 1, 7, 8, 9, 0x20000, 0x20001, 0x20008, 0x20009, 0x40000, 0xfffffffe,
        0xffffffff, 0x100000000, 0x100000008, 0x1ffffffff, -1UL };
    for (unsigned i = 0; i < sizeof persons / sizeof *persons; i++) ask(abi, offset + filtered[PERSONALITY], persons[i], 0);
    for (unsigned bit = 0; bit < 64; bit++)
        for (unsigned call = CLONE; call <= SETNS; call++) {
            ask(abi, offset + filtered[call], 1UL << bit, 0);
            ask(abi, offset + filtered[call], 1UL << bit | 17, 1UL << bit);
        }
    for (unsigned long request = 0; request < 32; request++) ask(abi, offset + filtered[PTRACE], request, 0);
    static const unsigned long requests[] = { 0x5401, 0x5412, 0x541c, 0x100005412, 0xffffffff00005412 };
    for (unsigned i = 0; i < sizeof requests / sizeof *requests; i++) ask(abi, offset + filtered[IOCTL], 0, requests[i]);
    if (filtered[SOCKETCALL])
        for (unsigned long call = 0; call < 24; call++) ask(abi, offset + filtered[SOCKETCALL], call, 0);
}

static void questions(void) {
    static const unsigned long_[] = { 41, 135, 56, 272, 308, 101, 0, 16 };
    static const unsigned x32[] = { 41, 135, 56, 272, 308, 521, 0, 514 };
    static const unsigned short_[] = { 359, 136, 120, 310, 346, 26, 102, 54 };
    ask_all('l', 0, long_);
    ask_all('x', X32, x32);
    ask_all('i', 0, short_);
    ask('l', 0xffffffff, 0, 0);
    sheet->is_over = 1;
}

static void watch(pid_t child) {
    int status;
    for (;;) {
        if (waitpid(child, &status, __WALL) < 0) { perror("waitpid"); exit(2); }
        if (WIFEXITED(status)) return;
        if (WIFSIGNALED(status)) { printf("killed by %d at question %u\n", WTERMSIG(status), sheet->asked); return; }
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8) && !sheet->is_over) {
            struct user_regs_struct registers;
            ptrace(PTRACE_GETREGS, child, 0, &registers);
            registers.orig_rax = -1;
            registers.rax = -ALLOWED;
            ptrace(PTRACE_SETREGS, child, 0, &registers);
        }
        int signal = WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
        ptrace(PTRACE_CONT, child, 0, signal);
    }
}

int main(void) {
    sheet = mmap(0, sizeof *sheet, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE) };
        struct sock_fprog program = { 1, all };
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) { perror("traceme"); _exit(2); }
        raise(SIGSTOP);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) { perror("filter"); _exit(2); }
        questions();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL)) { perror("setoptions"); return 2; }
    ptrace(PTRACE_CONT, child, 0, 0);
    watch(child);
    for (unsigned i = 0; i < sheet->asked; i++) {
        struct question q = sheet->list[i].question;
        printf("%c %u %lx %lx = %d\n", q.abi, q.number & ~X32, q.first, q.second, sheet->list[i].answer);
    }
    return 0;
}
