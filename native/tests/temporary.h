/* A directory with the files of one share, gone when the test program ends. */
#ifndef GPUSLICE_TEST_TEMPORARY_H
#define GPUSLICE_TEST_TEMPORARY_H

#include <stdint.h>

/* A new empty directory under $TMPDIR or /tmp. It and the plain files in it are removed when the process that asked
 * first exits or fails a CHECK; a child that ends with _exit() or fails one removes nothing. */
const char *temporary_directory(void);

/* The files of a new share of `memory_bytes` in a new temporary directory. */
const char *temporary_share(uint64_t memory_bytes);

/* Removes one of these before the end, for tests that make many. */
void temporary_remove(const char *directory);

#endif
