/* Streams of the simulated GPUs: what operations do to memory, when, and on whose thread; and the allocator. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach.h"
#include "check.h"
#include "random.h"
#include "sim_node.h"

#define MS(n) ((uint64_t)(n) * 1000000u)

static struct engine_stream *streams[2];

static void begin(void) {
    static bool made;
    if (!made)
        sim_node_new("2xa100-80g");
    made = true;
    CHECK_EQUAL(engine_attach(), 0);
    for (unsigned i = 0; i < 2; i++)
        CHECK_EQUAL(engine_stream_create(0, &streams[i]), 0);
}

static void end(void) {
    CHECK_EQUAL(engine_gpu_wait(0, false), 0);
    for (unsigned i = 0; i < 2; i++)
        engine_stream_destroy(streams[i]);
    sim_node_check();
}

static struct engine_ticket kernel(struct engine_stream *stream, uint64_t cost_ns) {
    struct engine_op op = {.kind = ENGINE_OP_KERNEL, .cost_ns = cost_ns, .occupancy = 0.25};
    struct engine_ticket ticket;
    CHECK_EQUAL(engine_submit(stream, &op, &ticket), 0);
    return ticket;
}

/* --- effects ------------------------------------------------------------------------------------------------ */

struct note {
    unsigned place; /* in the order of effects */
    struct engine_times times;
};
static unsigned noted;

static void take_note(void *arg, const struct engine_times *times) {
    struct note *note = arg;
    note->times = *times;
    note->place = ++noted;
}

static struct engine_ticket mark(struct engine_stream *stream, struct note *note) {
    struct engine_op op = {.kind = ENGINE_OP_MARK, .effect = take_note, .arg = note};
    struct engine_ticket ticket;
    CHECK_EQUAL(engine_submit(stream, &op, &ticket), 0);
    return ticket;
}

struct bytes {
    void *to;
    const void *from;
    size_t count;
};

static void move(void *arg, const struct engine_times *times) {
    (void)times;
    const struct bytes *bytes = arg;
    memcpy(bytes->to, bytes->from, bytes->count);
}

/* First, while the parent has no thread of the engine's: ThreadSanitizer wants no thread before a fork. */
static struct sim_signal ready;

static void write_then_publish(int shared) {
    struct engine_stream *stream;
    struct engine_physical *physical;
    uint64_t id, address;
    static const int answer = 42;
    CHECK_EQUAL(read(ready.read_fd, &id, sizeof id), sizeof id);
    CHECK_EQUAL(engine_physical_import(id, &physical), 0);
    CHECK_EQUAL(engine_address_reserve(ENGINE_BLOCK_BYTES, 0, 0, &address), 0);
    CHECK_EQUAL(engine_address_map(address, ENGINE_BLOCK_BYTES, physical, 0), 0);
    CHECK_EQUAL(engine_stream_create(0, &stream), 0);
    struct bytes bytes = {(void *)address, &answer, sizeof answer};
    struct engine_op op = {.kind = ENGINE_OP_KERNEL, .cost_ns = MS(3), .occupancy = 1, .effect = move, .arg = &bytes};
    struct engine_ticket ticket;
    CHECK_EQUAL(engine_submit(stream, &op, &ticket), 0);
    CHECK_EQUAL(engine_shared_ticket_put((uint32_t)shared, ticket, NULL), 0);
    pause();
}

CASE(a_wait_for_another_process_sees_what_it_wrote) {
    begin();
    struct engine_physical *physical;
    struct engine_ticket ticket = {0};
    uint64_t address;
    uint32_t shared;
    int out = 0;
    ready = sim_signal_new();
    CHECK_EQUAL(engine_shared_ticket_create(&shared), 0);
    CHECK_EQUAL(engine_physical_create(0, ENGINE_BLOCK_BYTES, &physical), 0);
    CHECK_EQUAL(engine_address_reserve(ENGINE_BLOCK_BYTES, 0, 0, &address), 0);
    CHECK_EQUAL(engine_address_map(address, ENGINE_BLOCK_BYTES, physical, 0), 0);
    pid_t other = sim_process(write_then_publish, (int)shared);
    uint64_t id = engine_physical_id(physical);
    CHECK_EQUAL(write(ready.write_fd, &id, sizeof id), sizeof id);
    while (ticket.sequence == 0)
        CHECK_EQUAL(engine_shared_ticket_get(shared, &ticket, NULL), 0);
    CHECK_EQUAL(engine_stream_wait(streams[0], ticket), 0);
    struct bytes bytes = {&out, (void *)address, sizeof out};
    struct engine_op op = {.kind = ENGINE_OP_COPY_OUT, .bytes = sizeof out, .effect = move, .arg = &bytes};
    CHECK_EQUAL(engine_run(streams[0], &op, false), 0);
    CHECK_EQUAL(out, 42);
    kill(other, SIGKILL);
    sim_process_end(other);
    CHECK_EQUAL(engine_ticket_wait(ticket, false), 0);
    CHECK_EQUAL(engine_address_unmap(address, ENGINE_BLOCK_BYTES), 0);
    CHECK_EQUAL(engine_address_free(address, ENGINE_BLOCK_BYTES), 0);
    engine_physical_release(physical);
    engine_shared_ticket_destroy(shared);
    end();
}

CASE(copies_move_bytes_in_the_order_of_their_stream) {
    begin();
    char in[4096], out[4096] = "";
    uint64_t device;
    memset(in, 7, sizeof in);
    CHECK_EQUAL(engine_memory_alloc(0, sizeof in, &device), 0);
    struct bytes upload = {(void *)device, in, sizeof in}, download = {out, (void *)device, sizeof out};
    kernel(streams[0], MS(1));
    struct engine_op op = {.kind = ENGINE_OP_COPY_IN, .bytes = sizeof in, .effect = move, .arg = &upload};
    CHECK_EQUAL(engine_submit(streams[0], &op, NULL), 0);
    op = (struct engine_op){.kind = ENGINE_OP_COPY_OUT, .bytes = sizeof out, .effect = move, .arg = &download};
    CHECK_EQUAL(engine_run(streams[0], &op, false), 0);
    CHECK(memcmp(in, out, sizeof in) == 0);
    CHECK_EQUAL(engine_memory_free(device), 0);
    end();
}

CASE(effects_happen_in_the_order_of_time_and_know_it) {
    begin();
    struct note notes[4];
    noted = 0;
    mark(streams[0], &notes[0]);
    kernel(streams[0], MS(400)); /* long enough for the rest to be submitted meanwhile, as the next one is */
    mark(streams[0], &notes[3]);
    kernel(streams[1], MS(100));
    mark(streams[1], &notes[1]);
    kernel(streams[1], MS(1));
    struct engine_ticket last = mark(streams[1], &notes[2]);
    CHECK_EQUAL(engine_ticket_wait(last, true), 0);
    CHECK_EQUAL(engine_gpu_wait(0, false), 0);
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQUAL(notes[i].place, i + 1);
    CHECK(notes[3].times.end_ns >= notes[0].times.end_ns + MS(400));
    CHECK_EQUAL(notes[2].times.end_ns - notes[1].times.end_ns, MS(1));
    end();
}

CASE(a_wait_orders_two_streams) {
    begin();
    struct note notes[2];
    kernel(streams[0], MS(100)); /* as above */
    struct engine_ticket first = mark(streams[0], &notes[0]);
    CHECK_EQUAL(engine_stream_wait(streams[1], first), 0);
    struct engine_ticket second = mark(streams[1], &notes[1]);
    CHECK_EQUAL(engine_ticket_wait(second, false), 0);
    CHECK(notes[1].place > notes[0].place);
    CHECK_EQUAL(notes[1].times.end_ns, notes[0].times.end_ns);
    end();
}

static void store_one(void *arg, const struct engine_times *times) {
    (void)times;
    *(_Atomic int *)arg = 1;
}

CASE(a_queued_write_appears_to_a_program_that_only_watches_memory) {
    begin();
    static _Atomic int word;
    kernel(streams[0], MS(2));
    struct engine_op op = {.kind = ENGINE_OP_MARK, .effect = store_one, .arg = &word};
    CHECK_EQUAL(engine_submit(streams[0], &op, NULL), 0);
    while (!word)
        usleep(100);
    end();
}

CASE(a_destroyed_stream_finishes_its_work_and_its_ticket_completes) {
    begin();
    struct note note = {0};
    struct engine_stream *stream;
    CHECK_EQUAL(engine_stream_create(0, &stream), 0);
    kernel(stream, MS(1));
    struct engine_ticket ticket = mark(stream, &note);
    engine_stream_destroy(stream);
    CHECK_EQUAL(engine_ticket_wait(ticket, false), 0);
    CHECK(note.place > 0);
    end();
}

CASE(a_full_queue_holds_the_submitter_back_and_loses_nothing) {
    begin();
    static struct note notes[5000];
    noted = 0;
    for (unsigned i = 0; i < 5000; i++) {
        kernel(streams[0], 1000);
        mark(streams[0], &notes[i]);
    }
    CHECK_EQUAL(engine_gpu_wait(0, false), 0);
    for (unsigned i = 0; i < 5000; i++)
        CHECK_EQUAL(notes[i].place, i + 1);
    end();
}

/* --- host calls and polls ----------------------------------------------------------------------------------- */

static _Atomic int called, allowed;

static void call_and_wait(void *arg, const struct engine_times *times) {
    (void)times;
    *(pthread_t *)arg = pthread_self();
    called = 1;
    while (!allowed)
        usleep(100);
}

CASE(a_host_call_holds_its_stream_and_nothing_else) {
    begin();
    pthread_t caller;
    struct note note = {0};
    called = allowed = 0;
    struct engine_op op = {.kind = ENGINE_OP_HOST_CALL, .effect = call_and_wait, .arg = &caller};
    CHECK_EQUAL(engine_submit(streams[0], &op, NULL), 0);
    struct engine_ticket behind = mark(streams[0], &note);
    while (!called)
        usleep(100);
    CHECK_EQUAL(engine_ticket_wait(kernel(streams[1], MS(1)), false), 0); /* while the call is still running */
    CHECK_EQUAL(engine_ticket_query(behind), 0);
    allowed = 1;
    CHECK_EQUAL(engine_ticket_wait(behind, false), 0);
    CHECK(!pthread_equal(caller, pthread_self()));
    end();
}

static bool is_allowed(void *arg) {
    return *(_Atomic int *)arg;
}

CASE(a_poll_holds_its_stream_until_memory_says_so) {
    begin();
    allowed = 0;
    struct engine_op op = {.kind = ENGINE_OP_POLL, .ready = is_allowed, .arg = &allowed};
    struct engine_ticket ticket;
    CHECK_EQUAL(engine_submit(streams[0], &op, &ticket), 0);
    CHECK_EQUAL(engine_ticket_wait(kernel(streams[1], MS(1)), false), 0);
    CHECK_EQUAL(engine_ticket_query(ticket), 0);
    allowed = 1;
    CHECK_EQUAL(engine_ticket_wait(ticket, false), 0);
    end();
}

/* --- the allocator ------------------------------------------------------------------------------------------ */

#define LIVE 300u

CASE(allocations_never_overlap_and_give_everything_back) {
    begin();
    struct random random = random_seeded(3);
    struct {
        uint64_t pointer, bytes;
    } live[LIVE] = {0};
    uint64_t before, after, total;
    struct engine_range range;
    CHECK_EQUAL(engine_memory_info(0, &before, &total), 0);
    for (unsigned round = 0; round < 20000; round++) {
        unsigned i = (unsigned)random_below(&random, LIVE);
        if (live[i].pointer) {
            unsigned char *bytes = (void *)live[i].pointer;
            CHECK(bytes[0] == i % 251 && bytes[live[i].bytes - 1] == i % 251); /* nobody else wrote there */
            CHECK_EQUAL(engine_memory_find(live[i].pointer + live[i].bytes - 1, &range), 0);
            CHECK(range.base == live[i].pointer && range.bytes == live[i].bytes);
            CHECK_EQUAL(engine_memory_free(live[i].pointer), 0);
            CHECK_EQUAL(engine_memory_free(live[i].pointer), -EINVAL);
            live[i].pointer = 0;
            continue;
        }
        live[i].bytes = 1 + random_below(&random, UINT64_C(1) << random_below(&random, 23));
        CHECK_EQUAL(engine_memory_alloc(0, live[i].bytes, &live[i].pointer), 0);
        CHECK_EQUAL(live[i].pointer % ENGINE_ALIGNMENT, 0);
        memset((void *)live[i].pointer, (int)(i % 251), 1);
        memset((void *)(live[i].pointer + live[i].bytes - 1), (int)(i % 251), 1);
    }
    for (unsigned i = 0; i < LIVE; i++)
        if (live[i].pointer)
            CHECK_EQUAL(engine_memory_free(live[i].pointer), 0);
    CHECK_EQUAL(engine_memory_info(0, &after, &total), 0);
    CHECK_EQUAL(after, before);
    CHECK_EQUAL(engine_memory_find((uint64_t)&live, &range), -ENOENT);
    end();
}

CASE(small_allocations_fill_blocks_like_the_driver_does) {
    begin();
    uint64_t pointers[4096], before, after, total;
    CHECK_EQUAL(engine_memory_info(0, &before, &total), 0);
    for (unsigned i = 0; i < 4096; i++)
        CHECK_EQUAL(engine_memory_alloc(0, 512, &pointers[i]), 0);
    CHECK_EQUAL(engine_memory_info(0, &after, &total), 0);
    CHECK_EQUAL(before - after, ENGINE_BLOCK_BYTES);
    for (unsigned i = 0; i < 4096; i++)
        CHECK_EQUAL(engine_memory_free(pointers[i]), 0);
    CHECK_EQUAL(engine_memory_info(0, &after, &total), 0);
    CHECK_EQUAL(after, before);
    end();
}

CASE(one_handle_shows_the_same_bytes_at_two_addresses) {
    begin();
    struct engine_physical *physical, *again;
    uint64_t address;
    int fd;
    CHECK_EQUAL(engine_physical_create(0, 2 * ENGINE_BLOCK_BYTES, &physical), 0);
    CHECK_EQUAL(engine_address_reserve(4 * ENGINE_BLOCK_BYTES, 4 * ENGINE_BLOCK_BYTES, 0, &address), 0);
    CHECK_EQUAL(address % (4 * ENGINE_BLOCK_BYTES), 0);
    CHECK_EQUAL(engine_address_map(address, 2 * ENGINE_BLOCK_BYTES, physical, 0), 0);
    CHECK_EQUAL(engine_address_map(address + 2 * ENGINE_BLOCK_BYTES, 2 * ENGINE_BLOCK_BYTES, physical, 0), 0);
    CHECK_EQUAL(engine_address_map(address, ENGINE_BLOCK_BYTES, physical, 0), -EBUSY);
    *(int *)(address + 8) = 5;
    CHECK_EQUAL(*(int *)(address + 2 * ENGINE_BLOCK_BYTES + 8), 5);
    CHECK_EQUAL(engine_physical_export_fd(physical, &fd), 0);
    CHECK_EQUAL(engine_physical_import_fd(fd, &again), 0);
    CHECK(again == physical);
    CHECK_EQUAL(close(fd), 0);
    CHECK_EQUAL(engine_address_unmap(address, ENGINE_BLOCK_BYTES), -EINVAL);
    CHECK_EQUAL(engine_address_free(address, 4 * ENGINE_BLOCK_BYTES), -EBUSY);
    CHECK_EQUAL(engine_address_unmap(address, 4 * ENGINE_BLOCK_BYTES), 0);
    CHECK_EQUAL(engine_address_free(address, 4 * ENGINE_BLOCK_BYTES), 0);
    engine_physical_release(physical);
    engine_physical_release(again);
    end();
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
