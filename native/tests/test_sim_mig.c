/* GPUs cut into instances: what fits beside what, and that instances share neither memory nor time. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "attach.h"
#include "check.h"
#include "mig.h"
#include "sim_node.h"

#define GIB (UINT64_C(1) << 30)
#define MS(n) ((uint64_t)(n) * 1000000u)
enum { ONE, ONE_MEDIA, ONE_DOUBLE, TWO, THREE, FOUR, SEVEN }; /* indices among the profiles of an A100 */

static struct node_file *node;

static void new_node(void) {
    static bool made;
    if (!made)
        sim_node_new("2xa100-80g");
    made = true;
    CHECK_EQUAL(engine_attach(), 0);
    node = engine_self.node;
}

/* An empty GPU 0 in MIG mode. */
static void new_gpu(void) {
    new_node();
    node_lock(&engine_self);
    reap_dead(&engine_self);
    for (unsigned g = 0; g < NODE_GPU_INSTANCES; g++) {
        for (unsigned c = 0; c < NODE_COMPUTE_INSTANCES; c++)
            mig_destroy_compute_instance(node, (struct mig_place){0, g, c});
        mig_destroy_gpu_instance(node, 0, g);
    }
    CHECK_EQUAL(mig_set_mode(node, 0, true), 0);
    node_unlock(&engine_self);
}

static int create(unsigned profile, uint32_t start) {
    unsigned id = 0;
    node_lock(&engine_self);
    int result = mig_create_gpu_instance(node, 0, profile, start, &id);
    node_unlock(&engine_self);
    return result < 0 ? result : (int)id;
}

static int split(unsigned gpu_instance, unsigned slices) {
    unsigned id = 0;
    node_lock(&engine_self);
    int result = mig_create_compute_instance(node, 0, gpu_instance, slices, MIG_ANYWHERE, &id);
    node_unlock(&engine_self);
    return result < 0 ? result : (int)id;
}

/* A GPU instance with one compute instance that fills it. */
static struct mig_place device(unsigned profile) {
    int id = create(profile, MIG_ANYWHERE);
    CHECK(id >= 0);
    CHECK_EQUAL(split((unsigned)id, node->gpus[0].mig_profiles[profile].slices), 0);
    return (struct mig_place){0, (unsigned)id, 0};
}

static unsigned room(unsigned profile) {
    node_lock(&engine_self);
    unsigned count = mig_room(node, 0, &node->gpus[0].mig_profiles[profile]);
    node_unlock(&engine_self);
    return count;
}

/* --- what fits ---------------------------------------------------------------------------------------------- */

CASE(an_empty_gpu_has_room_for_as_many_as_nvidia_smi_prints) {
    new_gpu();
    const unsigned expected[] = {7, 1, 4, 3, 2, 1, 1};
    for (unsigned p = 0; p < node->gpus[0].mig_profile_count; p++)
        CHECK_EQUAL(room(p), expected[p]);
}

CASE(instances_are_placed_as_high_as_they_fit_so_that_the_large_still_find_room) {
    new_gpu();
    CHECK_EQUAL(create(ONE, MIG_ANYWHERE), 13);
    CHECK_EQUAL(create(TWO, MIG_ANYWHERE), 5);
    CHECK_EQUAL(create(FOUR, MIG_ANYWHERE), 1);
    CHECK_EQUAL(room(ONE), 0);
    CHECK_EQUAL(create(ONE, MIG_ANYWHERE), -ENOSPC);
}

CASE(seven_of_the_smallest_fill_a_gpu) {
    new_gpu();
    for (int i = 0; i < 7; i++)
        CHECK_EQUAL(create(ONE, MIG_ANYWHERE), 13 - i);
    CHECK_EQUAL(create(ONE, MIG_ANYWHERE), -ENOSPC);
    CHECK_EQUAL(create(SEVEN, MIG_ANYWHERE), -ENOSPC);
}

CASE(three_slices_twice_leave_memory_but_no_compute_for_more_than_one) {
    new_gpu();
    CHECK_EQUAL(create(THREE, MIG_ANYWHERE), 2);
    CHECK_EQUAL(room(FOUR), 1);
    CHECK_EQUAL(create(THREE, MIG_ANYWHERE), 1);
    CHECK_EQUAL(room(FOUR), 0);
    CHECK_EQUAL(room(ONE), 0); /* one compute slice is left, and no memory slice */
}

CASE(only_one_instance_has_the_media_engines) {
    new_gpu();
    CHECK(create(ONE_MEDIA, MIG_ANYWHERE) >= 0);
    CHECK_EQUAL(create(ONE_MEDIA, MIG_ANYWHERE), -ENOSPC);
    CHECK_EQUAL(room(ONE), 6);
}

CASE(a_placement_that_the_profile_does_not_have_is_refused_and_a_taken_one_too) {
    new_gpu();
    CHECK_EQUAL(create(TWO, 1), -EINVAL);
    CHECK_EQUAL(create(TWO, 8), -EINVAL);
    CHECK_EQUAL(create(TWO, 2), 4);
    CHECK_EQUAL(create(TWO, 2), -ENOSPC);
    CHECK_EQUAL(create(THREE, 0), -ENOSPC);
    CHECK_EQUAL(create(THREE, 4), 2);
}

CASE(compute_instances_split_the_slices_of_their_gpu_instance) {
    new_gpu();
    int id = create(FOUR, MIG_ANYWHERE);
    CHECK_EQUAL(split((unsigned)id, 3), -EINVAL); /* four slices are not cut into three and one */
    CHECK_EQUAL(split((unsigned)id, 1), 0);
    CHECK_EQUAL(split((unsigned)id, 2), 1);
    CHECK_EQUAL(split((unsigned)id, 1), 2);
    CHECK_EQUAL(split((unsigned)id, 1), -ENOSPC);
    node_lock(&engine_self);
    CHECK_EQUAL(mig_view(node, (struct mig_place){0, (unsigned)id, 1}).sm_count, 28);
    CHECK_EQUAL(mig_destroy_gpu_instance(node, 0, (unsigned)id), -EBUSY);
    node_unlock(&engine_self);
}

CASE(every_profile_of_every_model_fits_the_gpu_that_has_it) {
    new_node();
    const struct sim_gpu *gpu = engine_gpu(0);
    for (unsigned p = 0; p < gpu->mig_profile_count; p++) {
        const struct sim_mig_profile *profile = &gpu->mig_profiles[p];
        CHECK(profile->starts && profile->slices <= gpu->mig_slices && profile->sm_count <= gpu->sm_count);
        CHECK(profile->memory_mib % 2 == 0); /* whole blocks */
        CHECK(profile->memory_mib << 20 <= gpu->memory_bytes + gpu->reserved_bytes);
    }
}

/* --- what runs there ---------------------------------------------------------------------------------------- */

static struct sim_signal ready, go;

static void enter(int gpu_instance) {
    CHECK_EQUAL(engine_enter_instance((struct mig_place){0, (unsigned)gpu_instance, 0}), 0);
    CHECK_EQUAL(engine_context_open(0), 0);
}

static void hold_four_gibibytes(int gpu_instance) {
    uint64_t pointer;
    enter(gpu_instance);
    CHECK_EQUAL(engine_memory_alloc(0, 4 * GIB, &pointer), 0);
    sim_signal_send(ready);
    sim_signal_await(go);
}

static void find_four_gibibytes_taken(int gpu_instance) {
    uint64_t free, total, pointer;
    enter(gpu_instance);
    uint64_t mine = engine_gpu(0)->context_overhead_bytes;
    CHECK_EQUAL(engine_memory_info(0, &free, &total), 0);
    CHECK_EQUAL(total, engine_gpu(0)->memory_bytes);
    CHECK_EQUAL(total - free, 4 * GIB + 2 * mine);
    CHECK_EQUAL(engine_memory_alloc(0, free + 1, &pointer), -ENOMEM);
    CHECK_EQUAL(engine_memory_alloc(0, free, &pointer), 0);
}

static void find_all_but_a_context_free(int gpu_instance) {
    uint64_t free, total;
    enter(gpu_instance);
    CHECK_EQUAL(engine_memory_info(0, &free, &total), 0);
    CHECK_EQUAL(total - free, engine_gpu(0)->context_overhead_bytes);
}

CASE(memory_is_shared_within_a_gpu_instance_and_with_no_other) {
    new_gpu();
    ready = sim_signal_new();
    go = sim_signal_new();
    struct mig_place a = device(TWO), b = device(TWO);
    pid_t holder = sim_process(hold_four_gibibytes, (int)a.gpu_instance);
    sim_signal_await(ready);
    CHECK_EQUAL(sim_process_end(sim_process(find_four_gibibytes_taken, (int)a.gpu_instance)), 0);
    CHECK_EQUAL(sim_process_end(sim_process(find_all_but_a_context_free, (int)b.gpu_instance)), 0);
    node_lock(&engine_self);
    reap_dead(&engine_self);
    CHECK_EQUAL(mig_destroy_compute_instance(node, a), -EBUSY);
    CHECK_EQUAL(mig_destroy_compute_instance(node, b), 0);
    CHECK_EQUAL(mig_set_mode(node, 0, false), -EBUSY);
    CHECK_EQUAL(node->mig[0].enabled, 1);
    CHECK_EQUAL(node->mig[0].pending, 0);
    node_unlock(&engine_self);
    kill(holder, SIGKILL);
    sim_process_end(holder);
    sim_node_check();
    node_lock(&engine_self);
    CHECK_EQUAL(mig_gpu_instance(node, 0, a.gpu_instance)->used_blocks, 0);
    CHECK_EQUAL(mig_destroy_compute_instance(node, a), 0);
    node_unlock(&engine_self);
}

static void run_for_20_ms_at_once(int gpu_instance) {
    struct engine_stream *stream;
    struct engine_op op = {.kind = ENGINE_OP_KERNEL, .cost_ns = MS(20), .occupancy = 1};
    struct engine_usage usage;
    enter(gpu_instance);
    CHECK_EQUAL(engine_stream_create(0, &stream), 0);
    sim_signal_send(ready);
    sim_signal_await(go);
    CHECK_EQUAL(engine_run(stream, &op, false), 0);
    CHECK_EQUAL(engine_usage(0, &usage), 0);
    CHECK_EQUAL(usage.busy_ns / MS(1), 20);
    CHECK_EQUAL(usage.active_ns, usage.busy_ns); /* it never shared the time with anybody */
}

CASE(gpu_time_of_one_instance_is_not_another_ones) {
    new_gpu();
    ready = sim_signal_new();
    go = sim_signal_new();
    pid_t a = sim_process(run_for_20_ms_at_once, (int)device(THREE).gpu_instance);
    pid_t b = sim_process(run_for_20_ms_at_once, (int)device(THREE).gpu_instance);
    sim_signal_await(ready);
    sim_signal_await(ready);
    sim_signal_send(go);
    sim_signal_send(go);
    CHECK_EQUAL(sim_process_end(a), 0);
    CHECK_EQUAL(sim_process_end(b), 0);
    sim_node_check();
}

static void find_no_gpu(int unused) {
    (void)unused;
    CHECK_EQUAL(engine_context_open(0), -ENODEV);
    CHECK_EQUAL(engine_context_open(1), 0);
}

CASE(a_gpu_in_mig_mode_is_not_there_as_a_whole) {
    new_gpu();
    CHECK_EQUAL(sim_process_end(sim_process(find_no_gpu, 0)), 0);
}

static void outlive_the_instance(int gpu_instance) {
    CHECK_EQUAL(engine_enter_instance((struct mig_place){0, (unsigned)gpu_instance, 0}), 0);
    sim_signal_send(ready);
    sim_signal_await(go);
    CHECK_EQUAL(engine_context_open(0), -ENODEV);
}

CASE(an_instance_that_is_gone_gives_no_context) {
    new_gpu();
    ready = sim_signal_new();
    go = sim_signal_new();
    struct mig_place place = device(ONE);
    pid_t process = sim_process(outlive_the_instance, (int)place.gpu_instance);
    sim_signal_await(ready);
    node_lock(&engine_self);
    CHECK_EQUAL(mig_destroy_compute_instance(node, place), 0);
    CHECK_EQUAL(mig_destroy_gpu_instance(node, 0, place.gpu_instance), 0);
    node_unlock(&engine_self);
    sim_signal_send(go);
    CHECK_EQUAL(sim_process_end(process), 0);
}

/* --- names -------------------------------------------------------------------------------------------------- */

CASE(a_mig_device_has_the_same_uuid_when_it_is_made_again_and_no_other_has_it) {
    new_gpu();
    struct mig_place a = device(TWO), found;
    char name[UUID_TEXT], again[UUID_TEXT], other[UUID_TEXT], old[96];
    uint8_t bytes[16];
    node_lock(&engine_self);
    mig_identify(node, a, bytes, name);
    CHECK(mig_device_named(node, name, &found) && mig_name(found) == mig_name(a));
    snprintf(old, sizeof old, "MIG-%s/%u/%u", node->gpus[0].uuid, a.gpu_instance, a.compute_instance);
    CHECK(mig_device_named(node, old, &found) && mig_name(found) == mig_name(a));
    CHECK_EQUAL(mig_destroy_compute_instance(node, a), 0);
    CHECK(!mig_device_named(node, name, &found));
    node_unlock(&engine_self);
    CHECK_EQUAL(split(a.gpu_instance, 2), 0);
    struct mig_place b = device(TWO);
    node_lock(&engine_self);
    mig_identify(node, a, bytes, again);
    mig_identify(node, b, bytes, other);
    node_unlock(&engine_self);
    CHECK(strcmp(name, again) == 0);
    CHECK(strcmp(name, other) != 0);
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
