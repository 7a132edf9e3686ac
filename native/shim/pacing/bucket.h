/* The share's common bucket, from which its processes live while no agent is there. */
#ifndef GPUSLICE_SHIM_PACING_BUCKET_H
#define GPUSLICE_SHIM_PACING_BUCKET_H

#include <gpuslice/region.h>

/* Fills it up to now at the rate of `cores` percent, and says what usage->busy_ns may reach. Any process may fill;
 * one that dies in the middle costs the share a millisecond's worth. */
uint64_t pacing_bucket_fill(struct gpuslice_usage *usage, uint32_t cores, uint64_t now_ns);

#endif
