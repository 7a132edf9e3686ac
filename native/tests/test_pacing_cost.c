/* What pacing learns of how long work takes. */
#include "../shim/pacing/cost.h"
#include "check.h"

static uint64_t known(uint64_t key) {
    uint64_t ns = 0;
    return pacing_cost_known(key, &ns) ? ns : 0;
}

static void forget(void) {
    memset(pacing_costs, 0, sizeof pacing_costs);
}

static int a_kernel, another_kernel;

CASE(what_was_never_measured_is_not_known) {
    forget();
    CHECK_EQUAL(known(pacing_key(&a_kernel, 1)), 0);
}

CASE(no_key_is_taken_for_a_free_place) {
    for (uint64_t shape = 0; shape < 10000; shape++)
        CHECK(pacing_key(NULL, shape) != 0);
}

CASE(the_first_measurement_is_believed) {
    forget();
    pacing_cost_learn(pacing_key(&a_kernel, 1), 5000);
    CHECK_EQUAL(known(pacing_key(&a_kernel, 1)), 5000);
}

CASE(each_shape_of_a_launch_is_learned_by_itself) {
    forget();
    pacing_cost_learn(pacing_key(&a_kernel, 1), 5000);
    pacing_cost_learn(pacing_key(&a_kernel, 1000), 900000);
    CHECK_EQUAL(known(pacing_key(&a_kernel, 1)), 5000);
    CHECK_EQUAL(known(pacing_key(&a_kernel, 1000)), 900000);
    CHECK_EQUAL(known(pacing_key(&another_kernel, 1)), 0);
}

CASE(one_strange_measurement_moves_the_estimate_by_a_quarter) {
    forget();
    uint64_t key = pacing_key(&a_kernel, 1);
    pacing_cost_learn(key, 1000);
    pacing_cost_learn(key, 9000);
    CHECK_EQUAL(known(key), 3000);
    pacing_cost_learn(key, 1000);
    CHECK_EQUAL(known(key), 2500);
}

CASE(the_estimate_follows_what_has_changed) {
    forget();
    uint64_t key = pacing_key(&a_kernel, 1);
    pacing_cost_learn(key, 1000000);
    for (int i = 0; i < 80; i++)
        pacing_cost_learn(key, 2000);
    CHECK(known(key) >= 2000 && known(key) < 2010);
    for (int i = 0; i < 80; i++)
        pacing_cost_learn(key, 1000000);
    CHECK(known(key) > 999000 && known(key) <= 1000000);
}

CASE(a_bound_only_lowers) {
    forget();
    uint64_t key = pacing_key(&a_kernel, 1);
    pacing_cost_bound(key, 8000);
    CHECK_EQUAL(known(key), 8000);
    pacing_cost_bound(key, 100000);
    CHECK_EQUAL(known(key), 8000);
    pacing_cost_bound(key, 4000);
    CHECK_EQUAL(known(key), 7000);
}

/* Two keys of one place: the older is forgotten, and neither is ever taken for the other. */
CASE(what_collides_is_forgotten_not_mixed_up) {
    forget();
    uint64_t key = pacing_key(&a_kernel, 1), other = 0;
    for (uint64_t shape = 2; !other; shape++)
        if (pacing_cost_slot(pacing_key(&a_kernel, shape)) == pacing_cost_slot(key))
            other = pacing_key(&a_kernel, shape);
    pacing_cost_learn(key, 1000);
    CHECK_EQUAL(known(other), 0);
    pacing_cost_learn(other, 700000);
    CHECK_EQUAL(known(key), 0);
    CHECK_EQUAL(known(other), 700000);
}

CASE(functions_side_by_side_in_memory_seldom_collide) {
    forget();
    unsigned kept = 0;
    for (uintptr_t i = 0; i < 400; i++)
        pacing_cost_learn(pacing_key((void *)(0x7f0000000000 + i * 256), 1031 + 256), 1000 + i);
    for (uintptr_t i = 0; i < 400; i++)
        kept += known(pacing_key((void *)(0x7f0000000000 + i * 256), 1031 + 256)) == 1000 + i;
    CHECK(kept > 350);
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
