#ifndef GPUSLICE_SIM_INJECT_H
#define GPUSLICE_SIM_INJECT_H

/* `gpuslice-sim-node inject DIR WHAT ...`; the exit status. docs/simulated-node.md says what there is. */
int inject(int argc, char **argv);

#endif
