/* The kernel log of a simulated node: a file that is written and read as the kernel's is through /dev/kmsg, by any
 * process, with no server. Reading it takes no part in the node: a reader needs this file only.
 *
 * Everything here returns 0 or more, or a negative errno. */
#ifndef GPUSLICE_SIM_KMSG_H
#define GPUSLICE_SIM_KMSG_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KMSG_FILE "kmsg" /* in the node directory */
#define KMSG_BYTES (UINT64_C(256) << 10)
#define KMSG_RECORD_MAX 8192u /* what the kernel's own readers give it */

/* An empty log. -EEXIST. */
int sim_kmsg_create(const char *path);
/* Appends a record as the kernel would: `priority` is facility * 8 + level, whatever they are. The oldest records make
 * room. Time is CLOCK_MONOTONIC. -EINVAL: longer than KMSG_RECORD_MAX. */
int sim_kmsg_append(const char *path, unsigned priority, const char *text);
/* As a user who writes to /dev/kmsg: facility 0 becomes 1. */
int sim_kmsg_write(const char *path, unsigned priority, const char *text);

struct sim_kmsg;
/* As open(path, O_RDONLY | flags) of /dev/kmsg, flags 0 or O_NONBLOCK: stands at the first record. */
int sim_kmsg_open(const char *path, int flags, struct sim_kmsg **ret_log);
void sim_kmsg_close(struct sim_kmsg *log);
/* A descriptor to poll: readable while sim_kmsg_read() has something to say. It may become so for nothing. */
int sim_kmsg_fd(const struct sim_kmsg *log);
/* One whole record. -EAGAIN: none (O_NONBLOCK); -EPIPE, once: records that were not read are gone, and the next read
 * gives the first that is there; -EINVAL: it is longer than `bytes`, and passed over. */
ssize_t sim_kmsg_read(struct sim_kmsg *log, char *buffer, size_t bytes);
/* SEEK_SET: the first record; SEEK_END: after the last; SEEK_DATA: the first, as nothing clears this log. -ESPIPE: with
 * another offset than 0. */
int sim_kmsg_seek(struct sim_kmsg *log, int64_t offset, int whence);

#endif
