#ifndef GPUSLICE_SIM_SHOW_H
#define GPUSLICE_SIM_SHOW_H

#include <stdio.h>

#include "member.h"

/* The truth about a node, as of now, as one JSON object. */
void show_node(struct member *member, FILE *out);

#endif
