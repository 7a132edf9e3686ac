#include "faults.h"

#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "journal.h"
#include "kmsg.h"
#include "mig.h"
#include "pids.h"

#define ERROR_PRIORITY 3u /* kernel, error */
#define WARNING_PRIORITY 4u
#define RESET 1u /* recovery actions */
#define LINE 1024u

/* --- what the driver writes --------------------------------------------------------------------------------- */

/* The end of the line, as the driver prints it, and what else the Xid comes with. */
static const struct kind {
    unsigned code;
    const char *message;
    bool of_process; /* it names a process, and ends that process's contexts */
    unsigned action; /* the recovery action that it leaves */
} kinds[] = {
    {13, "Graphics SM Warp Exception on (GPC 9, TPC 1, SM 1): Out Of Range Address", true, 0},
    {31,
     "Ch 00000008, intr 00000000. MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_8 faulted @ 0x73ac_1c000000. "
     "Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_WRITE",
     true, 0},
    {43, "Ch 00000018", true, 0},
    {45, "Ch 00000001", true, 0},
    {48,
     "An uncorrectable double bit error (DBE) has been detected on GPU in the framebuffer at partition 4, "
     "subpartition 1.",
     false, RESET},
    {62, "323b6a66 000066f0 00000000 20258ad2 20253d0c 20253f24 2025411a 2024f2d2", false, RESET},
    {63, "Row Remapper: New row (0x00000000002a7c3b) marked for remapping, reset gpu to activate.", false, 0},
    {64, "Row Remapper: Failed to write new row remapping entry", false, RESET},
    {74, "NVLink: fatal error detected on link 14(0x100000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)", false, RESET},
    {79, "GPU has fallen off the bus.", false, RESET},
    {94, "Contained: CE User Channel (0x9). RST: No, D-RST: No", true, 0},
    {95, "Uncontained: LTC TAG (0x2, 0x1). RST: Yes, D-RST: No", false, RESET},
    {109, "Ch 00000008, errorString CTX SWITCH TIMEOUT, Info 0x58005", true, RESET},
    {119,
     "Timeout after 6s of waiting for RPC response from GPU0 GSP! Expected function 76 (GSP_RM_CONTROL) "
     "(0x2080a0d8 0x0).",
     false, RESET},
    {120, "GSP Error: Task 1 raised error code 0x5 for reason 0x0 at 0x63f01ac (0 more errors skipped)", false, RESET},
    {145, "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008 0x00000001 0x00000000 0x00100000 0x00000004)",
     false, 0},
    {149, "NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (0x021425c6 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)",
     false, RESET},
    {172, "SM ICACHE, Uncorrectable SRAM error in GPC 7 TPC 6", false, RESET},
};

static const struct kind *kind_of(unsigned code) {
    static const struct kind other = {.message = "Ch 00000008"};
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].code == code)
            return &kinds[i];
    return &other;
}

static const char *const actions[] = {"None",      "GPU Reset Required", "Node Reboot Required",
                                      "Drain P2P", "Drain and Reset",    "Recover IMEX Domain",
                                      "Bus Reset", "System Reboot"};

static const char *action_name(uint64_t action) {
    return action < sizeof actions / sizeof actions[0] ? actions[action] : "Unknown";
}

void fault_log(const struct member *member, unsigned priority, const char *format, ...) {
    char path[PATH_MAX + sizeof "/" KMSG_FILE], line[LINE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    snprintf(path, sizeof path, "%s/" KMSG_FILE, member->directory);
    sim_kmsg_append(path, priority, line);
}

/* --- the node ----------------------------------------------------------------------------------------------- */

void fault_signal(struct node_file *node, unsigned gpu, unsigned type, uint64_t data) {
    struct node_event *event = &node->events[node->event_count % NODE_EVENTS];
    journal_put(node, &event->gpu, gpu);
    journal_put(node, &event->type, type);
    journal_put(node, &event->data, data);
    journal_put(node, &event->gpu_instance, UINT32_MAX);
    journal_put(node, &event->compute_instance, UINT32_MAX);
    journal_add(node, &node->event_count, 1);
    journal_commit(node);
}

/* After the unlock: whoever waits for events, work or an answer looks again. */
void fault_wake(struct member *member) {
    atomic_store_explicit(&member->node->trouble, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&member->node->bell, 1, memory_order_release);
    syscall(SYS_futex, &member->node->bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    node_kick(member->node);
}

static void end_contexts(struct node_file *node, unsigned gpu, uint64_t pid, uint64_t pid_namespace, unsigned code) {
    for (uint64_t p = 0; p < node->process_count; p++) {
        struct node_process *process = &node->processes[p];
        bool named = !pid || (process->pid == pid && process->pid_namespace == pid_namespace);
        if (process->live && named && process->gpus[gpu].contexts && !process->gpus[gpu].xid)
            journal_put(node, &process->gpus[gpu].xid, code);
    }
    journal_commit(node);
}

static void name_process(const struct xid *xid, char text[96]) {
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%llu/comm", (unsigned long long)xid->pid);
    FILE *file = xid->pid ? fopen(path, "re") : NULL;
    if (file && !fgets(name, sizeof name, file))
        name[0] = 0;
    if (file)
        fclose(file);
    name[strcspn(name, "\n")] = 0;
    if (xid->pid)
        snprintf(text, 96, "pid=%llu, name=%s", (unsigned long long)xid->pid, *name ? name : "<unknown>");
    else
        snprintf(text, 96, "pid='<unknown>', name=<unknown>");
}

static void address(const struct sim_pci *pci, char text[16]) {
    snprintf(text, 16, "%04x:%02x:%02x", pci->domain & 0xffff, pci->bus & 0xff, pci->device & 0xff);
}

static void log_xid(const struct member *member, const struct xid *xid, bool first) {
    const struct sim_gpu *gpu = &member->node->gpus[xid->gpu];
    char at[16], process[96], instance[40] = "";
    address(&gpu->pci, at);
    name_process(xid, process);
    if (xid->gpu_instance != FAULT_ANY && xid->compute_instance != FAULT_ANY)
        snprintf(instance, sizeof instance, " GPU-I:%02u GPU-CI:%02u", xid->gpu_instance, xid->compute_instance);
    else if (xid->gpu_instance != FAULT_ANY)
        snprintf(instance, sizeof instance, " GPU-I:%02u", xid->gpu_instance);
    if (first) {
        fault_log(member, WARNING_PRIORITY, "NVRM: GPU at PCI:%s: %s", at, gpu->uuid);
        fault_log(member, WARNING_PRIORITY, "NVRM: GPU Board Serial Number: %s", gpu->serial);
    }
    fault_log(member, ERROR_PRIORITY, "NVRM: Xid (PCI:%s%s): %u, %s, %s", at, instance, xid->code, process,
              xid->message ? xid->message : kind_of(xid->code)->message);
    if (xid->code == XID_FALLEN_OFF_THE_BUS)
        fault_log(member, ERROR_PRIORITY, "NVRM: GPU %s.0: GPU has fallen off the bus.", at);
}

static void feel(struct node_file *node, const struct xid *xid, uint64_t pid, uint64_t pid_namespace) {
    struct node_fault *fault = &node->faults[xid->gpu];
    if (xid->code == XID_FALLEN_OFF_THE_BUS) {
        journal_put(node, &fault->lost, 1);
        fault_signal(node, xid->gpu, EVENT_UNAVAILABLE, 0);
    } else if (xid->code == 48) {
        journal_add(node, &fault->uncorrected, 1);
        journal_add(node, &fault->uncorrected_ever, 1);
        fault_signal(node, xid->gpu, EVENT_DOUBLE_BIT, 0);
    } else if (xid->code == 63) {
        journal_add(node, &fault->remapped_uncorrected, 1);
        journal_put(node, &fault->remap_pending, 1);
    } else if (xid->code == 64) {
        journal_put(node, &fault->remap_failed, 1);
    }
    if (kind_of(xid->code)->of_process && pid)
        end_contexts(node, xid->gpu, pid, pid_namespace, xid->code);
    if (xid->code == 48 || xid->code == 95) /* whoever is on the GPU */
        end_contexts(node, xid->gpu, 0, 0, xid->code);
    journal_commit(node);
}

/* The instance of the process, where the injector named none. */
static void place_xid(const struct node_file *node, struct xid *xid, uint64_t pid, uint64_t pid_namespace) {
    for (uint64_t p = 0; p < node->process_count && pid; p++) {
        const struct node_process *process = &node->processes[p];
        struct mig_place place = mig_place(process->instance);
        if (process->live && process->pid == pid && process->pid_namespace == pid_namespace && process->instance &&
            place.gpu == xid->gpu && xid->gpu_instance == FAULT_ANY) {
            xid->gpu_instance = place.gpu_instance;
            xid->compute_instance = place.compute_instance;
        }
    }
}

void fault_xid(struct member *member, const struct xid *asked) {
    struct node_file *node = member->node;
    struct xid xid = *asked;
    uint64_t pid = 0, pid_namespace = 0;
    if (xid.pid)
        pid_identify(xid.pid, &pid, &pid_namespace);
    node_lock(member);
    reap_dead(member);
    place_xid(node, &xid, pid, pid_namespace);
    bool first = !node->faults[xid.gpu].reported;
    journal_put(node, &node->faults[xid.gpu].reported, 1);
    if (!xid.unsignalled) {
        fault_signal(node, xid.gpu, EVENT_XID, xid.code);
        struct node_event *event = &node->events[(node->event_count - 1) % NODE_EVENTS];
        journal_put(node, &event->gpu_instance, xid.gpu_instance);
        journal_put(node, &event->compute_instance, xid.compute_instance);
    }
    if (!xid.unfelt)
        feel(node, &xid, pid, pid_namespace);
    node_unlock(member);
    if (!xid.unlogged)
        log_xid(member, &xid, first);
    fault_wake(member);
    unsigned action = kind_of(xid.code)->action;
    if (action)
        fault_set_recovery_action(member, xid.gpu, action);
}

void fault_set_recovery_action(struct member *member, unsigned gpu, uint64_t action) {
    struct node_file *node = member->node;
    char at[16];
    node_lock(member);
    uint64_t before = node->faults[gpu].recovery_action;
    if (before != action) {
        journal_put(node, &node->faults[gpu].recovery_action, action);
        fault_signal(node, gpu, EVENT_XID, XID_RECOVERY_ACTION);
        fault_signal(node, gpu, EVENT_RECOVERY, 0);
    }
    node_unlock(member);
    if (before == action)
        return;
    address(&node->gpus[gpu].pci, at);
    fault_log(member, ERROR_PRIORITY,
              "NVRM: Xid (PCI:%s): %u, GPU recovery action changed from 0x%llx (%s) to 0x%llx (%s)", at,
              XID_RECOVERY_ACTION, (unsigned long long)before, action_name(before), (unsigned long long)action,
              action_name(action));
    fault_wake(member);
}

/* --- and its end -------------------------------------------------------------------------------------------- */

/* What is written into the board outlives everything. */
static void forget(struct node_file *node, unsigned gpu, bool board) {
    struct node_fault *fault = &node->faults[gpu];
    struct node_fault kept = {.missing = fault->missing,
                              .corrected_ever = fault->corrected_ever,
                              .uncorrected_ever = fault->uncorrected_ever,
                              .remapped_corrected = fault->remapped_corrected,
                              .remapped_uncorrected = fault->remapped_uncorrected,
                              .remap_failed = fault->remap_failed,
                              .bad_cell = fault->bad_cell,
                              .host_percent = fault->host_percent,
                              .flipped = fault->flipped,
                              .pcie_gen = fault->pcie_gen,
                              .pcie_width = fault->pcie_width};
    struct node_fault next = board ? (struct node_fault){0} : kept;
    uint64_t *words = (uint64_t *)fault;
    const uint64_t *values = (const uint64_t *)&next;
    for (unsigned i = 0; i < sizeof next / sizeof *values; i++)
        journal_put(node, &words[i], values[i]);
    journal_commit(node);
}

static void reset(struct member *member, unsigned gpu) {
    struct node_file *node = member->node;
    end_contexts(node, gpu, 0, 0, 45);
    forget(node, gpu, false);
    if (node->mig[gpu].enabled != node->mig[gpu].pending)
        mig_set_mode(node, gpu, node->mig[gpu].pending);
}

void fault_reset(struct member *member, unsigned gpu) {
    fault_set_recovery_action(member, gpu, 0);
    node_lock(member);
    reset(member, gpu);
    node_unlock(member);
    fault_wake(member);
}

void fault_restart(struct member *member) {
    struct node_file *node = member->node;
    char at[16];
    for (unsigned gpu = 0; gpu < node->info.gpu_count; gpu++) {
        node_lock(member);
        bool lost = node->faults[gpu].lost;
        reset(member, gpu);
        journal_put(node, &node->faults[gpu].missing, lost || node->faults[gpu].missing);
        node_unlock(member);
        address(&node->gpus[gpu].pci, at);
        if (lost)
            fault_log(member, ERROR_PRIORITY, "NVRM: GPU %s.0: RmInitAdapter failed! (0x22:0x56:884)", at);
    }
    fault_wake(member);
}

void fault_clear(struct member *member, unsigned gpu) {
    fault_set_recovery_action(member, gpu, 0);
    node_lock(member);
    forget(member->node, gpu, true);
    node_unlock(member);
    fault_wake(member);
}
