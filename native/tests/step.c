#include "step.h"
#include "check.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static int wait_for(pid_t child) {
    int status;

    CHECK(waitpid(child, &status, __WALL) == child);
    return status;
}

pid_t step_start(void (*prepare)(void *), void (*act)(void *), void *argument) {
    fflush(stdout);
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        prepare(argument);
        CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        raise(SIGSTOP);
        act(argument);
        raise(SIGSTOP);
        _exit(0);
    }
    int status = wait_for(child);

    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    return child;
}

bool step_once(pid_t child) {
    CHECK(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
    int status = wait_for(child);

    CHECK(WIFSTOPPED(status));
    if (WSTOPSIG(status) == SIGSTOP)
        return false;
    CHECK_EQUAL(WSTOPSIG(status), SIGTRAP);
    return true;
}

bool step_until_change(pid_t child, unsigned changes, unsigned long (*observe)(void)) {
    unsigned long seen = observe();

    for (unsigned count = 0; count < changes;) {
        if (!step_once(child))
            return false;
        unsigned long now = observe();

        count += now != seen;
        seen = now;
    }
    return true;
}

int step_release(pid_t child) {
    CHECK(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
    int status = wait_for(child);

    if (WIFSTOPPED(status)) { /* the mark at the end of act */
        CHECK(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
        status = wait_for(child);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void step_kill(pid_t child) {
    CHECK(kill(child, SIGKILL) == 0);
    int status = wait_for(child);

    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
