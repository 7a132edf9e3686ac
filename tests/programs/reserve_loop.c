/* Times pairs of gpuslice_reserve and gpuslice_refund, the step that every allocation takes before the driver.
 *
 *     reserve_loop DIRECTORY PAIRS share|counter median|mean
 *
 * counter: the least that could count instead, an atomic addition and subtraction on one word.
 * For each line on standard input: PAIRS pairs, then the median or mean of their nanoseconds, on a line.
 */
#include "share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES (UINT64_C(1) << 21)
#define BATCH 32 /* pairs between two readings of the clock */

static _Atomic uint64_t total;

static void reserve(struct gpuslice_share *share) {
    if (gpuslice_reserve(share, BYTES, GPUSLICE_MEMORY_DATA) != 0) {
        fprintf(stderr, "reserve_loop: refused\n");
        exit(1);
    }
    gpuslice_refund(share, BYTES, GPUSLICE_MEMORY_DATA);
}

static void count(struct gpuslice_share *share) {
    (void)share;
    atomic_fetch_add_explicit(&total, BYTES, memory_order_seq_cst);
    atomic_fetch_sub_explicit(&total, BYTES, memory_order_seq_cst);
}

static int compare(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double sum(const double *costs, size_t count) {
    double all = 0;
    for (size_t i = 0; i < count; i++)
        all += costs[i];
    return all;
}

static double typical_cost(const char *kind, void (*pair)(struct gpuslice_share *), struct gpuslice_share *share,
                           size_t batches, double *costs) {
    for (size_t i = 0; i < batches; i++) {
        uint64_t start_ns = gpuslice_now_ns();
        for (int j = 0; j < BATCH; j++)
            pair(share);
        costs[i] = (double)(gpuslice_now_ns() - start_ns) / BATCH;
    }
    if (!strcmp(kind, "mean"))
        return sum(costs, batches) / (double)batches;
    qsort(costs, batches, sizeof(*costs), compare);
    return costs[batches / 2];
}

int main(int argc, char **argv) {
    struct gpuslice_share share;
    const char *reason = "";
    if (argc != 5)
        return 2;
    size_t batches = strtoul(argv[2], NULL, 10) / BATCH;
    double *costs = malloc(batches * sizeof(*costs));
    if (gpuslice_share_open(argv[1], &share, &reason) != 0 || gpuslice_slot_claim(&share, &reason) != 0) {
        fprintf(stderr, "reserve_loop: %s\n", reason);
        return 1;
    }
    for (int c = getchar(); c != EOF && costs; c = getchar())
        if (c == '\n') {
            printf("%.2f\n", typical_cost(argv[4], argv[3][0] == 's' ? reserve : count, &share, batches, costs));
            fflush(stdout);
        }
    gpuslice_share_close(&share);
    return 0;
}
