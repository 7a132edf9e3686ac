/* What the files of native/region share among themselves, and with the agent's side of the same files. */
#ifndef GPUSLICE_REGION_INTERNAL_H
#define GPUSLICE_REGION_INTERNAL_H

#include "share.h"

/* The thread's buffer for sentences, filled like printf. */
const char *region_reason(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* 0, or -EPROTO with the sentence: magic, ABI and size of a grant or usage file of `file_bytes` bytes. */
int region_check_grant(const struct gpuslice_grant *grant, uint64_t file_bytes, const char **reason);
int region_check_usage(const struct gpuslice_usage *usage, uint64_t file_bytes, const char **reason);

uint32_t region_limits_checksum(const struct gpuslice_limits *limits);

/* A new open file description of the mapped usage file (locks belong to those), O_CLOEXEC. Or a negative errno. */
int region_open_usage(const struct gpuslice_share *share, int flags);

/* Serialise the threads of this process. Never held over a call into the driver or a wait. */
void region_lock(_Atomic uint32_t *lock);
void region_unlock(_Atomic uint32_t *lock);

/* Returns what a slot's dead holder held; called by a process that has just claimed that slot. */
void region_inherit(struct gpuslice_share *share);

#endif
