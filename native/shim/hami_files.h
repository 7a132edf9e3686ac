/* The files of the shares that a process makes for itself and its children. */
#ifndef GPUSLICE_SHIM_HAMI_FILES_H
#define GPUSLICE_SHIM_HAMI_FILES_H

#include <gpuslice/agent.h>

#include "../region/share.h"

/* Makes the directory. 0, or a negative errno, said on stderr. */
int hami_files_prepare(void);

/* Opens the share of a GPU, or makes it with these limits. Where one is there with other limits it stays as long as
 * a process holds it, as in HAMi, and is made anew when none does. 0, or a negative errno, said on stderr. */
int hami_files_open(const char *uuid, const struct gpuslice_share_limits *limits, struct gpuslice_share *share);

#endif
