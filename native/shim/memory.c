#include "tenant.h"

void memory_start(void) {}
