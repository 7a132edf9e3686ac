/* The kernel log of a simulated node behaves as /dev/kmsg does. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "kmsg.h"
#include "temporary.h"

static char path[512], record[KMSG_RECORD_MAX];

static struct sim_kmsg *new_log(int flags) {
    static unsigned logs;
    struct sim_kmsg *log;
    snprintf(path, sizeof path, "%s/kmsg-%u", temporary_directory(), logs++);
    CHECK_EQUAL(sim_kmsg_create(path), 0);
    CHECK_EQUAL(sim_kmsg_open(path, flags, &log), 0);
    return log;
}

static ssize_t next(struct sim_kmsg *log) {
    memset(record, 0, sizeof record);
    return sim_kmsg_read(log, record, sizeof record - 1);
}

static const char *text(void) {
    const char *semicolon = strchr(record, ';');
    return semicolon ? semicolon + 1 : "";
}

static bool readable(struct sim_kmsg *log) {
    return poll(&(struct pollfd){.fd = sim_kmsg_fd(log), .events = POLLIN}, 1, 0) == 1;
}

CASE(each_read_gives_one_record_with_its_number) {
    struct sim_kmsg *log = new_log(O_NONBLOCK);
    CHECK_EQUAL(sim_kmsg_append(path, 4, "first"), 0);
    CHECK_EQUAL(sim_kmsg_append(path, 3, "second"), 0);
    CHECK(next(log) > 0 && strncmp(record, "4,0,", 4) == 0 && strcmp(text(), "first\n") == 0);
    CHECK(next(log) > 0 && strncmp(record, "3,1,", 4) == 0 && strcmp(text(), "second\n") == 0);
    CHECK_EQUAL(next(log), -EAGAIN);
    sim_kmsg_close(log);
}

CASE(what_is_not_printable_is_escaped_as_the_kernel_does) {
    struct sim_kmsg *log = new_log(O_NONBLOCK);
    CHECK_EQUAL(sim_kmsg_append(path, 4, "a\nb\\c\x7f"), 0);
    CHECK(next(log) > 0);
    CHECK(strcmp(text(), "a\\x0ab\\x5cc\\x7f\n") == 0);
    sim_kmsg_close(log);
}

CASE(a_user_cannot_write_as_the_kernel) {
    struct sim_kmsg *log = new_log(O_NONBLOCK);
    CHECK_EQUAL(sim_kmsg_write(path, 4, "user"), 0);
    CHECK(next(log) > 0 && strncmp(record, "12,0,", 5) == 0);
    sim_kmsg_close(log);
}

CASE(a_record_longer_than_the_buffer_is_passed_over) {
    struct sim_kmsg *log = new_log(O_NONBLOCK);
    char small[16];
    CHECK_EQUAL(sim_kmsg_append(path, 4, "too long for sixteen bytes"), 0);
    CHECK_EQUAL(sim_kmsg_append(path, 4, "next"), 0);
    CHECK_EQUAL(sim_kmsg_read(log, small, sizeof small), -EINVAL);
    CHECK(next(log) > 0 && strcmp(text(), "next\n") == 0);
    sim_kmsg_close(log);
}

CASE(an_overrun_is_told_once_and_then_the_oldest_that_is_left) {
    struct sim_kmsg *log = new_log(O_NONBLOCK);
    char line[200];
    for (unsigned i = 0; i < 4000; i++) {
        snprintf(line, sizeof line, "line %u %0100d", i, 0);
        CHECK_EQUAL(sim_kmsg_append(path, 4, line), 0);
    }
    CHECK_EQUAL(next(log), -EPIPE);
    CHECK(readable(log));
    CHECK(next(log) > 0);
    unsigned first, read = 1, number;
    CHECK_EQUAL(sscanf(record, "4,%u,", &first), 1);
    CHECK(first > 1000);
    for (; next(log) > 0; read++)
        CHECK(sscanf(record, "4,%u,", &number) == 1 && number == first + read);
    CHECK_EQUAL(first + read, 4000);
    sim_kmsg_close(log);
}

CASE(seeking_finds_the_first_record_or_the_end_and_nothing_else) {
    struct sim_kmsg *log = new_log(O_NONBLOCK);
    CHECK_EQUAL(sim_kmsg_append(path, 4, "first"), 0);
    CHECK_EQUAL(sim_kmsg_seek(log, 0, SEEK_END), 0);
    CHECK(!readable(log));
    CHECK_EQUAL(next(log), -EAGAIN);
    CHECK_EQUAL(sim_kmsg_seek(log, 0, SEEK_SET), 0);
    CHECK(next(log) > 0 && strcmp(text(), "first\n") == 0);
    CHECK_EQUAL(sim_kmsg_seek(log, 0, SEEK_DATA), 0);
    CHECK(next(log) > 0);
    CHECK_EQUAL(sim_kmsg_seek(log, 1, SEEK_SET), -ESPIPE);
    CHECK_EQUAL(sim_kmsg_seek(log, 0, SEEK_CUR), -EINVAL);
    sim_kmsg_close(log);
}

CASE(the_descriptor_is_readable_exactly_while_there_is_a_record) {
    sim_kmsg_close(new_log(O_NONBLOCK));
    CHECK_EQUAL(sim_kmsg_append(path, 4, "before"), 0);
    struct sim_kmsg *log;
    CHECK_EQUAL(sim_kmsg_open(path, O_NONBLOCK, &log), 0);
    CHECK(readable(log));
    CHECK(next(log) > 0);
    CHECK(!readable(log));
    CHECK_EQUAL(sim_kmsg_append(path, 4, "one"), 0);
    CHECK_EQUAL(sim_kmsg_append(path, 4, "two"), 0);
    CHECK(readable(log));
    CHECK(next(log) > 0);
    CHECK(readable(log));
    CHECK(next(log) > 0);
    CHECK(!readable(log));
    sim_kmsg_close(log);
}

CASE(a_blocking_read_waits_for_the_next_record) {
    struct sim_kmsg *log = new_log(0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        usleep(20000);
        _exit(sim_kmsg_append(path, 4, "late") == 0 ? 0 : 1);
    }
    CHECK(next(log) > 0 && strcmp(text(), "late\n") == 0);
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    sim_kmsg_close(log);
}

/* Two writers at once, one of them killed again and again: every record is whole, and none has another's number. */
CASE(a_killed_writer_leaves_a_whole_log) {
    struct sim_kmsg *log = new_log(O_NONBLOCK);
    unsigned records = 0, number, last = 0;
    for (unsigned round = 0; round < 50; round++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        for (unsigned i = 0; pid == 0; i++)
            if (sim_kmsg_append(path, 4, "from a writer that is going to be killed") < 0)
                _exit(1);
        for (unsigned i = 0; i < 20; i++)
            CHECK_EQUAL(sim_kmsg_append(path, 4, "from the other"), 0);
        kill(pid, SIGKILL);
        CHECK_EQUAL(waitpid(pid, NULL, 0), pid);
        for (ssize_t bytes; (bytes = next(log)) != -EAGAIN;) {
            if (bytes == -EPIPE)
                continue;
            CHECK(bytes > 0 && sscanf(record, "4,%u,", &number) == 1);
            CHECK(records++ == 0 || number > last);
            CHECK(strncmp(text(), "from ", 5) == 0);
            last = number;
        }
    }
    CHECK(records >= 1000);
    sim_kmsg_close(log);
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
