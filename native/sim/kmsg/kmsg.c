#include "kmsg.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef sim_kmsg_EXPORTS /* the library; within others it is their own */
#define EXPORT __attribute__((visibility("default")))
#else
#define EXPORT
#endif
#define MAGIC UINT64_C(0x31676f4c6d6973) /* "simLog1" */
#define LOG_USER (1u << 3)

/* At the beginning of the file; KMSG_BYTES of records follow, each a length and the text of its record. Places count
 * all bytes ever written; a place lies at its remainder. */
struct head {
    uint64_t magic;
    uint64_t first_sequence, first_place;
    uint64_t next_sequence, next_place;
};

/* --- the file ----------------------------------------------------------------------------------------------- */

/* One writer at a time, and no reader meanwhile; the kernel drops the lock of a writer that dies. */
static int lock(int fd, short type) {
    struct flock whole = {.l_type = type, .l_whence = SEEK_SET};
    while (fcntl(fd, F_OFD_SETLKW, &whole) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static int get_head(int fd, struct head *ret_head) {
    ssize_t bytes = pread(fd, ret_head, sizeof *ret_head, 0);
    if (bytes < 0)
        return -errno;
    return bytes == (ssize_t)sizeof *ret_head && ret_head->magic == MAGIC ? 0 : -EPROTO;
}

static int put_head(int fd, const struct head *head) {
    return pwrite(fd, head, sizeof *head, 0) == (ssize_t)sizeof *head ? 0 : -EIO;
}

static off_t offset_of(uint64_t place) {
    return (off_t)(sizeof(struct head) + place % KMSG_BYTES);
}

static uint64_t to_the_end(uint64_t place, uint64_t bytes) {
    uint64_t rest = KMSG_BYTES - place % KMSG_BYTES;
    return bytes < rest ? bytes : rest;
}

static int get(int fd, uint64_t place, void *data, uint64_t bytes) {
    uint64_t head = to_the_end(place, bytes), tail = bytes - head;
    if (pread(fd, data, head, offset_of(place)) != (ssize_t)head ||
        (tail && pread(fd, (char *)data + head, tail, offset_of(0)) != (ssize_t)tail))
        return -EIO;
    return 0;
}

static int put(int fd, uint64_t place, const void *data, uint64_t bytes) {
    uint64_t head = to_the_end(place, bytes), tail = bytes - head;
    if (pwrite(fd, data, head, offset_of(place)) != (ssize_t)head ||
        (tail && pwrite(fd, (const char *)data + head, tail, offset_of(0)) != (ssize_t)tail))
        return -EIO;
    return 0;
}

EXPORT int sim_kmsg_create(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return -errno;
    const struct head head = {.magic = MAGIC};
    int result = fchmod(fd, 0666) < 0 || ftruncate(fd, (off_t)(sizeof head + KMSG_BYTES)) < 0 ? -errno : 0;
    if (result == 0)
        result = put_head(fd, &head);
    close(fd);
    return result;
}

/* --- writing ------------------------------------------------------------------------------------------------ */

/* As the kernel prints a record: what is not printable, and the backslash, as \xNN. False: too long. */
static bool print_record(char record[KMSG_RECORD_MAX], unsigned priority, uint64_t sequence, const char *text,
                         uint32_t *ret_bytes) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    unsigned long long us = (unsigned long long)now.tv_sec * 1000000u + (unsigned long long)now.tv_nsec / 1000;
    size_t length =
        (size_t)snprintf(record, KMSG_RECORD_MAX, "%u,%llu,%llu,-;", priority, (unsigned long long)sequence, us);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (length + 6 > KMSG_RECORD_MAX)
            return false;
        if (c < ' ' || c >= 127 || c == '\\')
            length += (size_t)snprintf(record + length, KMSG_RECORD_MAX - length, "\\x%02x", c);
        else
            record[length++] = (char)c;
    }
    record[length++] = '\n';
    *ret_bytes = (uint32_t)length;
    return true;
}

/* Lets go of the oldest records until so many bytes more fit. */
static int make_room(int fd, struct head *head, uint64_t bytes) {
    while (head->next_place + bytes - head->first_place > KMSG_BYTES) {
        uint32_t length;
        int result = get(fd, head->first_place, &length, sizeof length);
        if (result < 0)
            return result;
        head->first_place += sizeof length + length;
        head->first_sequence++;
    }
    return 0;
}

static int append(int fd, unsigned priority, const char *text) {
    struct head head;
    char record[KMSG_RECORD_MAX];
    uint32_t length;
    int result = get_head(fd, &head);
    if (result == 0 && !print_record(record, priority, head.next_sequence, text, &length))
        result = -EINVAL;
    if (result == 0)
        result = make_room(fd, &head, sizeof length + length);
    /* Killed in between, a writer leaves a log without the oldest, or without the newest record: never a broken one. */
    if (result == 0)
        result = put_head(fd, &head);
    if (result == 0)
        result = put(fd, head.next_place, &length, sizeof length);
    if (result == 0)
        result = put(fd, head.next_place + sizeof length, record, length);
    if (result < 0)
        return result;
    head.next_place += sizeof length + length;
    head.next_sequence++;
    return put_head(fd, &head);
}

EXPORT int sim_kmsg_append(const char *path, unsigned priority, const char *text) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int result = lock(fd, F_WRLCK);
    if (result == 0)
        result = append(fd, priority, text);
    close(fd);
    return result;
}

EXPORT int sim_kmsg_write(const char *path, unsigned priority, const char *text) {
    return sim_kmsg_append(path, priority < LOG_USER ? priority | LOG_USER : priority, text);
}

/* --- reading ------------------------------------------------------------------------------------------------ */

struct sim_kmsg {
    uint64_t sequence, place; /* of the next record to read */
    int file, watch, more, ready;
    bool nonblocking;
};

static void drain(int fd) {
    char bytes[4096];
    while (read(fd, bytes, sizeof bytes) > 0)
        ;
}

/* Makes `ready` readable if there is something to read, and only then: what is written later wakes it through `watch`,
 * which therefore must be emptied before the look. */
static void settle(struct sim_kmsg *log) {
    struct head head;
    drain(log->watch);
    drain(log->more);
    if (get_head(log->file, &head) == 0 && log->sequence < head.next_sequence)
        eventfd_write(log->more, 1);
}

static int watch(struct sim_kmsg *log, const char *path) {
    struct epoll_event event = {.events = EPOLLIN};
    log->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    log->more = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    log->ready = epoll_create1(EPOLL_CLOEXEC);
    if (log->watch < 0 || log->more < 0 || log->ready < 0 || inotify_add_watch(log->watch, path, IN_MODIFY) < 0 ||
        epoll_ctl(log->ready, EPOLL_CTL_ADD, log->watch, &event) < 0 ||
        epoll_ctl(log->ready, EPOLL_CTL_ADD, log->more, &event) < 0)
        return -errno;
    return 0;
}

EXPORT void sim_kmsg_close(struct sim_kmsg *log) {
    const int descriptors[] = {log->file, log->watch, log->more, log->ready};
    for (unsigned i = 0; i < sizeof descriptors / sizeof descriptors[0]; i++)
        if (descriptors[i] >= 0)
            close(descriptors[i]);
    free(log);
}

EXPORT int sim_kmsg_open(const char *path, int flags, struct sim_kmsg **ret_log) {
    struct sim_kmsg *log = malloc(sizeof *log);
    if (!log)
        return -ENOMEM;
    *log = (struct sim_kmsg){.watch = -1, .more = -1, .ready = -1, .nonblocking = flags & O_NONBLOCK};
    log->file = open(path, O_RDONLY | O_CLOEXEC);
    int result = log->file < 0 ? -errno : watch(log, path);
    if (result == 0)
        result = sim_kmsg_seek(log, 0, SEEK_SET);
    if (result < 0)
        sim_kmsg_close(log);
    else
        *ret_log = log;
    return result;
}

EXPORT int sim_kmsg_fd(const struct sim_kmsg *log) {
    return log->ready;
}

static ssize_t read_record(struct sim_kmsg *log, char *buffer, size_t bytes) {
    struct head head;
    uint32_t length;
    int result = get_head(log->file, &head);
    if (result < 0)
        return result;
    if (log->sequence < head.first_sequence) {
        log->sequence = head.first_sequence;
        log->place = head.first_place;
        return -EPIPE;
    }
    if (log->sequence >= head.next_sequence)
        return -EAGAIN;
    result = get(log->file, log->place, &length, sizeof length);
    if (result == 0 && length <= bytes)
        result = get(log->file, log->place + sizeof length, buffer, length);
    if (result < 0)
        return result;
    log->place += sizeof length + length;
    log->sequence++;
    return length <= bytes ? (ssize_t)length : -EINVAL;
}

EXPORT ssize_t sim_kmsg_read(struct sim_kmsg *log, char *buffer, size_t bytes) {
    for (;;) {
        ssize_t result = lock(log->file, F_RDLCK);
        if (result == 0) {
            result = read_record(log, buffer, bytes);
            lock(log->file, F_UNLCK);
        }
        settle(log);
        if (result != -EAGAIN || log->nonblocking)
            return result;
        if (poll(&(struct pollfd){.fd = log->ready, .events = POLLIN}, 1, -1) < 0 && errno == EINTR)
            return -EINTR;
    }
}

EXPORT int sim_kmsg_seek(struct sim_kmsg *log, int64_t offset, int whence) {
    struct head head;
    if (offset != 0)
        return -ESPIPE;
    if (whence != SEEK_SET && whence != SEEK_END && whence != SEEK_DATA)
        return -EINVAL;
    int result = lock(log->file, F_RDLCK);
    if (result == 0)
        result = get_head(log->file, &head);
    lock(log->file, F_UNLCK);
    if (result < 0)
        return result;
    log->sequence = whence == SEEK_END ? head.next_sequence : head.first_sequence;
    log->place = whence == SEEK_END ? head.next_place : head.first_place;
    settle(log);
    return 0;
}
