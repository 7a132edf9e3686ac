/* What `gpuslice-sim-node show` prints:
 *
 *   profile, now_ns (CLOCK_MONOTONIC)
 *   gpus[]        index, name, uuid
 *     memory_total_bytes, memory_used_bytes     physical, over all processes, in blocks of 2 MiB
 *     busy_ns       wall time with any GPU work since the node was made
 *     utilization   percent of the last half to one and a half seconds with any GPU work
 *     mig           null, or a list while the GPU is in MIG mode: gpu_instance, compute_instance, uuid, name,
 *                   memory_total_bytes, memory_used_bytes (of the GPU instance)
 *   processes[]   every process that ever attached to a GPU of this node, the living first; of the ended the
 *                 latest 4096
 *     pid, pid_namespace (inode), start_time (clock ticks since boot), name
 *     alive, ended_ns (null while alive). A process that was killed ended, for the timeline, when anybody last
 *     looked at the node before its death was noticed; while anyone waits for a GPU that is every 10 ms or more often
 *     mig         the MIG device it sees, as "GPU index/GPU instance/compute instance"; null: whole GPUs
 *     gpus[]      only those the process used
 *       index
 *       memory_bytes, memory_peak_bytes         physical, in blocks, context overhead included
 *       contexts
 *       busy_ns     service: its part of GPU time, the integral of its rate (1/n among n) while it had GPU work
 *       active_ns   wall time in which it had runnable GPU work; never less than busy_ns
 */
#include "show.h"

#include <stdlib.h>

#include "blocks.h"
#include "mig.h"
#include "timeline.h"

typedef unsigned long long ull;

static void text(FILE *out, const char *string) {
    fputc('"', out);
    for (; *string; string++) {
        if (*string == '"' || *string == '\\')
            fputc('\\', out);
        if ((unsigned char)*string >= ' ')
            fputc(*string, out);
    }
    fputc('"', out);
}

static void show_mig(FILE *out, struct node_file *node, unsigned g) {
    struct mig_place place;
    if (!node->mig[g].enabled) {
        fputs("null", out);
        return;
    }
    fputc('[', out);
    for (unsigned i = 0; mig_device_at(node, g, i, &place); i++) {
        struct sim_gpu view = mig_view(node, place);
        fprintf(out, "%s{\"gpu_instance\": %u, \"compute_instance\": %u, \"uuid\": \"%s\", \"name\": ", i ? ", " : "",
                place.gpu_instance, place.compute_instance, view.uuid);
        text(out, view.name);
        fprintf(out, ", \"memory_total_bytes\": %llu, \"memory_used_bytes\": %llu}", (ull)view.memory_bytes,
                (ull)(mig_gpu_instance(node, g, place.gpu_instance)->used_blocks << BLOCK_SHIFT));
    }
    fputc(']', out);
}

static void show_gpu(FILE *out, struct node_file *node, unsigned g) {
    const struct node_gpu_state *state = &node->gpu_states[g];
    double rate = timeline_rate(&state->meter, node->timeline.now_ns, state->busy, 1);
    fprintf(out, "%s\n  {\"index\": %u, \"name\": ", g ? "," : "", g);
    text(out, node->gpus[g].name);
    fprintf(out,
            ", \"uuid\": \"%s\", \"memory_total_bytes\": %llu, \"memory_used_bytes\": %llu, \"busy_ns\": %llu, "
            "\"utilization\": %.1f, \"mig\": ",
            node->gpus[g].uuid, (ull)node->gpus[g].memory_bytes, (ull)(state->used_blocks << BLOCK_SHIFT),
            (ull)state->busy, rate * 100);
    show_mig(out, node, g);
    fputc('}', out);
}

static void show_identity(FILE *out, bool *first, const char *name, ull pid, ull pid_namespace, ull start_time) {
    fprintf(out, "%s\n  {\"pid\": %llu, \"pid_namespace\": %llu, \"start_time\": %llu, \"name\": ", *first ? "" : ",",
            pid, pid_namespace, start_time);
    text(out, name);
    *first = false;
}

static void show_use(FILE *out, bool *first, unsigned g, ull blocks, ull peak, ull contexts, ull busy, ull active) {
    if (!peak && !contexts && !active)
        return;
    fprintf(out,
            "%s{\"index\": %u, \"memory_bytes\": %llu, \"memory_peak_bytes\": %llu, \"contexts\": %llu, "
            "\"busy_ns\": %llu, \"active_ns\": %llu}",
            *first ? "" : ", ", g, blocks << BLOCK_SHIFT, peak << BLOCK_SHIFT, contexts, busy >> NODE_TIME_SHIFT,
            active);
    *first = false;
}

static void show_living(FILE *out, const struct node_file *node, const struct node_process *process, bool *first) {
    show_identity(out, first, process->name, process->pid, process->pid_namespace, process->start_time);
    fprintf(out, ", \"alive\": true, \"ended_ns\": null, \"mig\": ");
    struct mig_place place = mig_place(process->instance);
    if (process->instance)
        fprintf(out, "\"%u/%u/%u\"", place.gpu, place.gpu_instance, place.compute_instance);
    else
        fputs("null", out);
    fputs(", \"gpus\": [", out);
    bool first_gpu = true;
    for (unsigned g = 0; g < node->info.gpu_count; g++) {
        const struct node_process_gpu *use = &process->gpus[g];
        show_use(out, &first_gpu, g, use->blocks, use->blocks_peak, use->contexts, use->busy, use->active);
    }
    fprintf(out, "]}");
}

static void show_ended(FILE *out, const struct node_file *node, const struct node_ended *ended, bool *first) {
    show_identity(out, first, ended->name, ended->pid, ended->pid_namespace, ended->start_time);
    fprintf(out, ", \"alive\": false, \"ended_ns\": %llu, \"mig\": null, \"gpus\": [", (ull)ended->ended_ns);
    bool first_gpu = true;
    for (unsigned g = 0; g < node->info.gpu_count; g++)
        show_use(out, &first_gpu, g, 0, ended->gpus[g].blocks_peak, 0, ended->gpus[g].busy, ended->gpus[g].active);
    fprintf(out, "]}");
}

/* Written to memory first: nobody holds the lock while a pipe is full. */
void show_node(struct member *member, FILE *out) {
    struct node_file *node = member->node;
    char *json = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&json, &length);
    if (!memory)
        return;
    node_lock(member);
    reap_dead(member);
    timeline_advance(node, now_ns());
    fprintf(memory, "{\"profile\": \"%s\", \"now_ns\": %llu, \"gpus\": [", node->info.profile,
            (ull)node->timeline.now_ns);
    for (unsigned g = 0; g < node->info.gpu_count; g++)
        show_gpu(memory, node, g);
    fprintf(memory, "],\n \"processes\": [");
    bool first = true;
    for (unsigned p = 0; p < node->process_count; p++)
        if (node->processes[p].live && !node->processes[p].observer)
            show_living(memory, node, &node->processes[p], &first);
    uint64_t oldest = node->ended_count > NODE_ENDED ? node->ended_count - NODE_ENDED : 0;
    for (uint64_t e = node->ended_count; e > oldest; e--)
        show_ended(memory, node, &node->ended[(e - 1) % NODE_ENDED], &first);
    fprintf(memory, "]}\n");
    node_unlock(member);
    fclose(memory);
    fwrite(json, 1, length, out);
    free(json);
}
