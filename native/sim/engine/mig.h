/* GPUs cut into instances. A GPU instance has memory slices of its own and compute slices; compute instances share
 * its memory and split its compute slices. A compute instance is what CUDA and NVML call a MIG device.
 *
 * All under the node's lock; what changes is committed. Nothing here asks who may do it, or looks for the dead. */
#ifndef GPUSLICE_SIM_MIG_H
#define GPUSLICE_SIM_MIG_H

#include <stdbool.h>

#include "node.h"
#include "uuid.h"

/* One word for a place, never 0, and back. */
static inline uint64_t mig_name(struct mig_place place) {
    return UINT64_C(1) << 32 | place.gpu << 16 | place.gpu_instance << 8 | place.compute_instance;
}
static inline struct mig_place mig_place(uint64_t name) {
    return (struct mig_place){name >> 16 & 0xff, name >> 8 & 0xff, name & 0xff};
}

/* NULL: there is none. */
struct node_gpu_instance *mig_gpu_instance(struct node_file *node, unsigned gpu, unsigned id);
struct node_compute_instance *mig_compute_instance(struct node_file *node, struct mig_place place);
const struct sim_mig_profile *mig_profile_of(const struct node_file *node, unsigned gpu,
                                             const struct node_gpu_instance *instance);
/* Whether a process has a context there. */
bool mig_gpu_used(const struct node_file *node, unsigned gpu);
bool mig_compute_instance_used(const struct node_file *node, struct mig_place place);

/* -EBUSY: it is used, or has instances; the mode is then pending, until a reset. */
int mig_set_mode(struct node_file *node, unsigned gpu, bool enabled);

/* How many more of a profile fit. */
unsigned mig_room(struct node_file *node, unsigned gpu, const struct sim_mig_profile *profile);
#define MIG_ANYWHERE UINT32_MAX
/* At a memory slice, or where the driver would: as high as it fits. -ENOSPC; -EINVAL: it cannot begin there. */
int mig_create_gpu_instance(struct node_file *node, unsigned gpu, unsigned profile, uint32_t start, unsigned *ret_id);
/* -EBUSY: it has compute instances. */
int mig_destroy_gpu_instance(struct node_file *node, unsigned gpu, unsigned id);

/* Where a compute instance of so many slices may begin, one bit a slice; 0: there is none of that size. */
uint32_t mig_compute_starts(const struct sim_mig_profile *profile, unsigned slices);
unsigned mig_compute_room(struct node_file *node, unsigned gpu, unsigned gpu_instance, unsigned slices);
unsigned mig_compute_sms(const struct sim_gpu *gpu, const struct sim_mig_profile *profile, unsigned slices);
int mig_create_compute_instance(struct node_file *node, unsigned gpu, unsigned gpu_instance, unsigned slices,
                                uint32_t start, unsigned *ret_id);
/* -EBUSY: a process has a context there. */
int mig_destroy_compute_instance(struct node_file *node, struct mig_place place);

/* The index-th MIG device of a GPU, by the ids of its instances. False: there is none. */
bool mig_device_at(struct node_file *node, unsigned gpu, unsigned index, struct mig_place *ret_place);
/* The MIG device of this name: "MIG-" and its UUID, or "MIG-", the GPU's UUID and the ids of its instances, as
 * MIG-GPU-.../1/0. */
bool mig_device_named(struct node_file *node, const char *name, struct mig_place *ret_place);
/* The same for the same GPU and place, also after it was destroyed and made again. */
void mig_identify(const struct node_file *node, struct mig_place place, uint8_t bytes[16], char text[UUID_TEXT]);
/* What CUDA sees of the GPU from within a compute instance. */
struct sim_gpu mig_view(struct node_file *node, struct mig_place place);

#endif
