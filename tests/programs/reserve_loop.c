/* Times pairs of gpuslice_reserve and gpuslice_refund, the step that every allocation takes before the driver.
 *
 *     reserve_loop DIRECTORY PAIRS share|counter
 *
 * counter: the least that could count instead, an atomic addition and subtraction on one word.
 * For each line on standard input: PAIRS pairs, then the nanoseconds a pair took on the average, on a line.
 */
#include "share.h"

#include <stdio.h>
#include <stdlib.h>

#define BYTES (UINT64_C(1) << 21)

static uint64_t time_reserving(struct gpuslice_share *share, unsigned long pairs) {
    uint64_t start_ns = gpuslice_now_ns();
    for (unsigned long i = 0; i < pairs; i++) {
        if (gpuslice_reserve(share, BYTES, GPUSLICE_MEMORY_DATA) != 0) {
            fprintf(stderr, "reserve_loop: refused\n");
            exit(1);
        }
        gpuslice_refund(share, BYTES, GPUSLICE_MEMORY_DATA);
    }
    return gpuslice_now_ns() - start_ns;
}

static uint64_t time_counting(unsigned long pairs) {
    static _Atomic uint64_t total;
    uint64_t start_ns = gpuslice_now_ns();
    for (unsigned long i = 0; i < pairs; i++) {
        atomic_fetch_add_explicit(&total, BYTES, memory_order_seq_cst);
        atomic_fetch_sub_explicit(&total, BYTES, memory_order_seq_cst);
    }
    return gpuslice_now_ns() - start_ns;
}

int main(int argc, char **argv) {
    struct gpuslice_share share;
    const char *reason = "";
    if (argc != 4)
        return 2;
    unsigned long pairs = strtoul(argv[2], NULL, 10);
    if (gpuslice_share_open(argv[1], &share, &reason) != 0 || gpuslice_slot_claim(&share, &reason) != 0) {
        fprintf(stderr, "reserve_loop: %s\n", reason);
        return 1;
    }
    for (int c = getchar(); c != EOF; c = getchar())
        if (c == '\n') {
            uint64_t ns = argv[3][0] == 's' ? time_reserving(&share, pairs) : time_counting(pairs);
            printf("%.2f\n", (double)ns / (double)pairs);
            fflush(stdout);
        }
    gpuslice_share_close(&share);
    return 0;
}
