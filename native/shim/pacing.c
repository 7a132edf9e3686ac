#include "tenant.h"

void pacing_start(void) {}
