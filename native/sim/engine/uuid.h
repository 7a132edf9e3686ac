/* Names that are the same for the same node: made from its seed, or from another name. */
#ifndef GPUSLICE_SIM_UUID_H
#define GPUSLICE_SIM_UUID_H

#include <stdint.h>

#define UUID_TEXT 48 /* "GPU-" or "MIG-", 36 characters and a NUL fit */

/* splitmix64: well-mixed 64 bits from a seed. */
uint64_t uuid_mix(uint64_t seed);
/* 16 bytes of an RFC 9562 UUID of this version, and its text after `prefix`. */
void uuid_make(uint64_t high, uint64_t low, unsigned version, uint8_t bytes[16]);
void uuid_write(const char *prefix, const uint8_t bytes[16], char text[UUID_TEXT]);

#endif
