#include "sim_node.h"

#include <sys/wait.h>
#include <unistd.h>

#include "attach.h"
#include "check.h"
#include "temporary.h"
#include "timeline.h"

void sim_node_new(const char *profile) {
    char reason[256] = "";
    const char *directory = temporary_directory();
    if (node_create(directory, profile, 0, 1, NULL, reason) < 0)
        fprintf(stderr, "%s\n", reason);
    setenv("GPUSLICE_SIM_NODE", directory, 1);
}

pid_t sim_process(void (*body)(int argument), int argument) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK_EQUAL(engine_attach(), 0);
        body(argument);
        _exit(0);
    }
    return pid;
}

int sim_process_end(pid_t pid) {
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    return status;
}

struct sim_signal sim_signal_new(void) {
    int ends[2];
    CHECK_EQUAL(pipe(ends), 0);
    return (struct sim_signal){ends[0], ends[1]};
}

void sim_signal_send(struct sim_signal signal) {
    CHECK_EQUAL(write(signal.write_fd, "", 1), 1);
}

void sim_signal_await(struct sim_signal signal) {
    char byte;
    CHECK_EQUAL(read(signal.read_fd, &byte, 1), 1);
}

static void check_memory(const struct node_file *node) {
    for (unsigned g = 0; g < node->info.gpu_count; g++) {
        uint64_t sum = 0;
        for (unsigned p = 0; p < node->process_count; p++) {
            CHECK(node->processes[p].live || node->processes[p].gpus[g].blocks == 0);
            sum += node->processes[p].gpus[g].blocks;
        }
        CHECK_EQUAL(node->gpu_states[g].used_blocks, sum);
    }
    for (uint64_t o = 0; o < node->object_count; o++) {
        const struct node_object *object = &node->objects[o];
        CHECK(!object->id || object->holders[0]);
        for (unsigned h = 0; object->id && h < NODE_HOLDERS && object->holders[h]; h++)
            CHECK(node->processes[owner_index(object->holders[h])].live);
    }
}

static void check_timeline(const struct node_file *node) {
    unsigned linked = 0, listed = 0;
    for (unsigned c = 0; c < node->channel_count; c++) {
        const struct node_channel *channel = &node->channels[c];
        CHECK(channel->done <= channel->tail && channel->tail - channel->done < NODE_QUEUE);
        CHECK(!channel->owner || node->processes[owner_index(channel->owner)].live);
        CHECK(channel->owner == 0 || channel->linked || channel->done == channel->tail);
        linked += channel->linked == 1;
    }
    for (uint64_t link = node->timeline.busy_head; link; link = node->channels[link - 1].next) {
        CHECK(node->channels[link - 1].linked);
        CHECK(listed++ < NODE_CHANNELS);
    }
    CHECK_EQUAL(listed, linked);
}

void sim_node_check(void) {
    struct node_file *node = engine_self.node;
    node_lock(&engine_self);
    CHECK_EQUAL(node->journal_length, 0);
    reap_dead(&engine_self);
    timeline_advance(node, now_ns());
    check_memory(node);
    check_timeline(node);
    node_unlock(&engine_self);
}
