/* A node and its processes: what they hold together, and what is left when one of them dies, at any moment. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach.h"
#include "check.h"
#include "journal.h"
#include "sim_node.h"

#define GIB (UINT64_C(1) << 30)
#define MS(n) ((uint64_t)(n) * 1000000u)

/* The engine was compiled to call this between any two stores to the node. */
static unsigned steps_to_live; /* 0: for ever */

void journal_fault(void) {
    if (steps_to_live > 0 && --steps_to_live == 0)
        raise(SIGKILL);
}

static struct sim_signal ready, go;

static uint64_t free_bytes(unsigned gpu) {
    uint64_t free, total;
    CHECK_EQUAL(engine_memory_info(gpu, &free, &total), 0);
    return free;
}

static void new_node(void) {
    static bool made;
    if (!made)
        sim_node_new("2xa100-80g");
    made = true;
    ready = sim_signal_new();
    go = sim_signal_new();
    CHECK_EQUAL(engine_attach(), 0);
}

static void kill_now(pid_t pid) {
    kill(pid, SIGKILL);
    int status = sim_process_end(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* --- memory ------------------------------------------------------------------------------------------------- */

static void hold_gibibytes(int count) {
    uint64_t pointer;
    CHECK_EQUAL(engine_context_open(0), 0);
    CHECK_EQUAL(engine_memory_alloc(0, (uint64_t)count * GIB, &pointer), 0);
    sim_signal_send(ready);
    sim_signal_await(go);
}

CASE(two_processes_get_no_more_than_the_card_has) {
    new_node();
    pid_t other = sim_process(hold_gibibytes, 50);
    sim_signal_await(ready);
    uint64_t rest = free_bytes(0), pointer;
    CHECK_EQUAL(engine_gpu(0)->memory_bytes - rest, 50 * GIB + engine_gpu(0)->context_overhead_bytes);
    CHECK_EQUAL(engine_memory_alloc(0, rest + 1, &pointer), -ENOMEM);
    CHECK_EQUAL(engine_memory_alloc(0, rest, &pointer), 0);
    CHECK_EQUAL(free_bytes(0), 0);
    CHECK_EQUAL(engine_memory_alloc(0, 1, &pointer), -ENOMEM);
    CHECK_EQUAL(engine_memory_free(pointer), 0);
    kill_now(other);
    sim_node_check();
}

CASE(what_a_killed_process_held_is_there_for_the_next_allocation) {
    new_node();
    pid_t other = sim_process(hold_gibibytes, 70);
    sim_signal_await(ready);
    kill_now(other);
    uint64_t pointer;
    CHECK_EQUAL(engine_memory_alloc(0, engine_gpu(0)->memory_bytes, &pointer), 0);
    CHECK_EQUAL(engine_memory_free(pointer), 0);
    sim_node_check();
}

static void fork_and_hold(int count) {
    if (fork() == 0) {
        sim_signal_await(go); /* lives on when its parent has been killed */
        _exit(0);
    }
    hold_gibibytes(count);
}

CASE(a_forked_child_does_not_keep_what_its_killed_parent_held) {
    new_node();
    pid_t parent = sim_process(fork_and_hold, 70);
    sim_signal_await(ready);
    kill_now(parent);
    CHECK_EQUAL(free_bytes(0), engine_gpu(0)->memory_bytes);
    sim_signal_send(go);
    sim_node_check();
}

static void close_everything_and_hold(int count) {
    for (int fd = 3; fd < 256; fd++)
        if (fd != ready.write_fd && fd != go.read_fd)
            close(fd);
    hold_gibibytes(count);
}

CASE(a_process_that_closes_all_descriptors_keeps_what_it_holds) {
    new_node();
    pid_t other = sim_process(close_everything_and_hold, 10);
    sim_signal_await(ready);
    CHECK(free_bytes(0) < engine_gpu(0)->memory_bytes - 10 * GIB);
    kill_now(other);
    CHECK_EQUAL(free_bytes(0), engine_gpu(0)->memory_bytes);
}

static void import_and_hold(int unused) {
    (void)unused;
    uint64_t id;
    struct engine_physical *physical;
    CHECK_EQUAL(read(go.read_fd, &id, sizeof id), sizeof id);
    CHECK_EQUAL(engine_physical_import(id, &physical), 0);
    uint64_t address;
    CHECK_EQUAL(engine_address_reserve(ENGINE_BLOCK_BYTES, 0, 0, &address), 0);
    CHECK_EQUAL(engine_address_map(address, ENGINE_BLOCK_BYTES, physical, 0), 0);
    CHECK_EQUAL(*(int *)address, 42);
    *(int *)address = 43;
    sim_signal_send(ready);
    sim_signal_await(go);
}

CASE(an_imported_handle_outlives_its_exporter_and_is_counted_once) {
    new_node();
    struct engine_physical *physical;
    struct engine_usage usage;
    uint64_t address, before = free_bytes(0);
    CHECK_EQUAL(engine_physical_create(0, ENGINE_BLOCK_BYTES, &physical), 0);
    CHECK_EQUAL(engine_address_reserve(ENGINE_BLOCK_BYTES, 0, 0, &address), 0);
    CHECK_EQUAL(engine_address_map(address, ENGINE_BLOCK_BYTES, physical, 0), 0);
    *(int *)address = 42;
    pid_t other = sim_process(import_and_hold, 0);
    uint64_t id = engine_physical_id(physical);
    CHECK_EQUAL(write(go.write_fd, &id, sizeof id), sizeof id);
    sim_signal_await(ready);
    CHECK_EQUAL(*(int *)address, 43);
    CHECK_EQUAL(before - free_bytes(0), ENGINE_BLOCK_BYTES);
    engine_physical_release(physical);
    CHECK_EQUAL(engine_usage(0, &usage), 0);
    CHECK_EQUAL(usage.memory_bytes, ENGINE_BLOCK_BYTES); /* the mapping holds it */
    CHECK_EQUAL(engine_address_unmap(address, ENGINE_BLOCK_BYTES), 0);
    CHECK_EQUAL(engine_usage(0, &usage), 0);
    CHECK_EQUAL(usage.memory_bytes, 0); /* the importer pays now */
    CHECK_EQUAL(before - free_bytes(0), ENGINE_BLOCK_BYTES);
    sim_node_check();
    kill_now(other);
    CHECK_EQUAL(free_bytes(0), before);
    CHECK_EQUAL(engine_address_free(address, ENGINE_BLOCK_BYTES), 0);
    CHECK_EQUAL(engine_physical_import(id, &physical), -ENOENT);
    sim_node_check();
}

/* --- time --------------------------------------------------------------------------------------------------- */

static const struct engine_op kernel_2ms = {.kind = ENGINE_OP_KERNEL, .cost_ns = MS(2), .occupancy = 1};

static void compute(int kernels) {
    struct engine_stream *stream;
    struct engine_ticket last = {0};
    CHECK_EQUAL(engine_stream_create(0, &stream), 0);
    sim_signal_send(ready);
    sim_signal_await(go);
    for (int i = 0; i < kernels; i++)
        CHECK_EQUAL(engine_submit(stream, &kernel_2ms, &last), 0);
    CHECK_EQUAL(engine_ticket_wait(last, false), 0);
}

CASE(two_processes_that_compute_share_the_gpu_and_are_remembered) {
    new_node();
    struct node_file *node = engine_self.node;
    uint64_t ended = node->ended_count, whole = node->gpu_states[0].busy;
    pid_t pids[2] = {sim_process(compute, 100), sim_process(compute, 100)};
    for (unsigned i = 0; i < 2; i++)
        sim_signal_await(ready);
    for (unsigned i = 0; i < 2; i++)
        sim_signal_send(go);
    for (unsigned i = 0; i < 2; i++)
        CHECK_EQUAL(sim_process_end(pids[i]), 0);
    sim_node_check();
    CHECK_EQUAL(node->ended_count, ended + 2);
    uint64_t sum = 0;
    for (unsigned i = 0; i < 2; i++) {
        const struct node_ended *process = &node->ended[(ended + i) % NODE_ENDED];
        CHECK(process->pid == (uint64_t)pids[0] || process->pid == (uint64_t)pids[1]);
        sum += process->gpus[0].busy >> NODE_TIME_SHIFT;
        /* at half the rate while the other worked: both were told to begin at once */
        CHECK(process->gpus[0].active > process->gpus[0].busy >> NODE_TIME_SHIFT);
    }
    whole = node->gpu_states[0].busy - whole;
    CHECK(sum >= MS(400) && sum < MS(400) + 1000);
    CHECK(whole >= sum && whole < sum + 1000);
}

static void queue_and_sleep(int kernels) {
    struct engine_stream *stream;
    CHECK_EQUAL(engine_stream_create(0, &stream), 0);
    for (int i = 0; i < kernels; i++)
        CHECK_EQUAL(engine_submit(stream, &kernel_2ms, NULL), 0);
    sim_signal_send(ready);
    pause();
}

CASE(the_queued_work_of_a_killed_process_leaves_the_gpu) {
    new_node();
    pid_t other = sim_process(queue_and_sleep, 1000);
    sim_signal_await(ready);
    struct engine_stream *stream;
    struct engine_ticket ticket;
    CHECK_EQUAL(engine_stream_create(0, &stream), 0);
    CHECK_EQUAL(engine_submit(stream, &kernel_2ms, &ticket), 0);
    kill_now(other);
    CHECK_EQUAL(engine_ticket_wait(ticket, false), 0);
    sim_node_check();
    CHECK_EQUAL(engine_self.node->timeline.busy_head, 0);
    engine_stream_destroy(stream);
}

/* --- killed anywhere ---------------------------------------------------------------------------------------- */

/* Everything that writes to the node; dies at the n-th step of it. */
static void live_for(int steps) {
    uint64_t small, large, address;
    struct engine_physical *physical;
    struct engine_stream *streams[2];
    struct engine_op kernel = {.kind = ENGINE_OP_KERNEL, .cost_ns = 1000, .occupancy = 0.5};
    uint32_t shared;
    steps_to_live = (unsigned)steps;
    CHECK_EQUAL(engine_context_open(0), 0);
    CHECK_EQUAL(engine_memory_alloc(0, 1000, &small), 0);
    CHECK_EQUAL(engine_memory_alloc(0, 3 * ENGINE_BLOCK_BYTES, &large), 0);
    CHECK_EQUAL(engine_physical_create(1, ENGINE_BLOCK_BYTES, &physical), 0);
    CHECK_EQUAL(engine_address_reserve(ENGINE_BLOCK_BYTES, 0, 0, &address), 0);
    CHECK_EQUAL(engine_address_map(address, ENGINE_BLOCK_BYTES, physical, 0), 0);
    for (unsigned i = 0; i < 2; i++)
        CHECK_EQUAL(engine_stream_create(0, &streams[i]), 0);
    for (unsigned i = 0; i < 6; i++)
        CHECK_EQUAL(engine_submit(streams[i % 2], &kernel, NULL), 0);
    CHECK_EQUAL(engine_stream_wait(streams[0], engine_stream_last(streams[1])), 0);
    CHECK_EQUAL(engine_shared_ticket_create(&shared), 0);
    CHECK_EQUAL(engine_shared_ticket_put(shared, engine_stream_last(streams[0]), NULL), 0);
    CHECK_EQUAL(engine_gpu_wait(0, false), 0);
    CHECK_EQUAL(engine_memory_free(large), 0);
    CHECK_EQUAL(engine_memory_free(small), 0);
    CHECK_EQUAL(engine_address_unmap(address, ENGINE_BLOCK_BYTES), 0);
    engine_physical_release(physical);
    for (unsigned i = 0; i < 2; i++)
        engine_stream_destroy(streams[i]);
    engine_shared_ticket_destroy(shared);
    engine_context_close(0);
    steps_to_live = 0;
}

CASE(a_process_killed_at_any_step_leaves_the_node_whole) {
    new_node();
    uint64_t free[2] = {free_bytes(0), free_bytes(1)}, pointer;
    int steps = 0, status;
    do {
        status = sim_process_end(sim_process(live_for, ++steps));
        CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
        CHECK_EQUAL(engine_memory_alloc(0, ENGINE_BLOCK_BYTES, &pointer), 0); /* first, with the lock a dead one held */
        CHECK_EQUAL(engine_memory_free(pointer), 0);
        sim_node_check();
        CHECK_EQUAL(free_bytes(0), free[0]);
        CHECK_EQUAL(free_bytes(1), free[1]);
    } while (status != 0);
    CHECK(steps > 200);
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
