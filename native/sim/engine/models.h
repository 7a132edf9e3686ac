/* The GPU models that nodes are made of, without what tells one card of a model from another. */
#ifndef GPUSLICE_SIM_MODELS_H
#define GPUSLICE_SIM_MODELS_H

#include "gpu.h"

extern const struct sim_gpu model_t4, model_a100_40g, model_a100_80g, model_h100_80g, model_h200, model_b200;

#endif
