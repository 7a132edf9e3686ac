/* Arrays and mipmapped arrays: pixels in rows. What they cost is more than width times height: rows are padded. */
#include "array.h"

#include <stdlib.h>

#define ROW_ALIGNMENT 512u /* a row of tiles */
#define ROWS_ALIGNMENT 8u

struct array *array_check(CUarray handle) {
    return is_live(handle, MAGIC_ARRAY) ? (struct array *)handle : NULL;
}
