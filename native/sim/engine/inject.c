#include "inject.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "faults.h"
#include "journal.h"
#include "kmsg.h"

#define USER_PRIORITY 12u /* a user's warning */

/* What can simply be set or counted up: a name, its word, the largest value. */
static const struct counter {
    const char *name;
    size_t word;
    uint64_t most;
    bool adds;
    size_t ever; /* counted up with it; 0: nothing */
} counters[] = {
    {"ecc-corrected", offsetof(struct node_fault, corrected), UINT32_MAX, true,
     offsetof(struct node_fault, corrected_ever)},
    {"ecc-uncorrected", offsetof(struct node_fault, uncorrected), UINT32_MAX, true,
     offsetof(struct node_fault, uncorrected_ever)},
    {"sram-threshold", offsetof(struct node_fault, sram_exceeded), 1, false, 0},
    {"remapped-corrected", offsetof(struct node_fault, remapped_corrected), UINT32_MAX, true, 0},
    {"remapped-uncorrected", offsetof(struct node_fault, remapped_uncorrected), UINT32_MAX, true, 0},
    {"remap-pending", offsetof(struct node_fault, remap_pending), 1, false, 0},
    {"remap-failure", offsetof(struct node_fault, remap_failed), 1, false, 0},
    {"clock-reasons", offsetof(struct node_fault, clock_reasons), 0xfff, false, 0},
    {"pcie-gen", offsetof(struct node_fault, pcie_gen), 7, false, 0},
    {"pcie-width", offsetof(struct node_fault, pcie_width), 32, false, 0},
    {"pcie-replays", offsetof(struct node_fault, pcie_replays), UINT32_MAX, true, 0},
    {"links-down", offsetof(struct node_fault, links_down), (UINT64_C(1) << SIM_LINKS_MAX) - 1, false, 0},
    {"slow-link", offsetof(struct node_fault, host_percent), 100, false, 0},
    {"flip", offsetof(struct node_fault, flipped), UINT32_MAX, false, 0},
    {"hang", offsetof(struct node_fault, hung), 1, false, 0},
    {"missing", offsetof(struct node_fault, missing), 1, false, 0},
};

struct asked {
    unsigned gpu;
    bool every_gpu;
    struct xid xid;
};

static int refuse(const char *format, const char *what) {
    fprintf(stderr, "gpuslice-sim-node: ");
    fprintf(stderr, format, what); // NOLINT: the formats are ours
    fputc('\n', stderr);
    return 2;
}

static bool number(const char *text, uint64_t *ret_value) {
    char *end;
    errno = 0;
    *ret_value = strtoull(text, &end, 0);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == 0;
}

static uint64_t *word_at(struct node_fault *fault, size_t offset) {
    return (uint64_t *)((char *)fault + offset);
}

static void set_counter(struct member *member, unsigned gpu, const struct counter *counter, uint64_t value) {
    struct node_file *node = member->node;
    struct node_fault *fault = &node->faults[gpu];
    node_lock(member);
    uint64_t *word = word_at(fault, counter->word);
    journal_put(node, word, counter->adds ? *word + value : value);
    if (counter->ever)
        journal_add(node, word_at(fault, counter->ever), value);
    if (counter->word == offsetof(struct node_fault, corrected))
        fault_signal(node, gpu, EVENT_SINGLE_BIT, 0);
    if (counter->word == offsetof(struct node_fault, uncorrected))
        fault_signal(node, gpu, EVENT_DOUBLE_BIT, 0);
    node_unlock(member);
    fault_wake(member);
}

static int inject_counter(struct member *member, const struct asked *asked, const char *name, const char *text) {
    uint64_t value;
    for (unsigned i = 0; i < sizeof counters / sizeof counters[0]; i++) {
        const struct counter *counter = &counters[i];
        if (strcmp(counter->name, name) != 0)
            continue;
        if (!number(text, &value) || value > counter->most) {
            fprintf(stderr, "gpuslice-sim-node: %s takes a number up to %llu, not '%s'.\n", name,
                    (unsigned long long)counter->most, text);
            return 2;
        }
        set_counter(member, asked->gpu, counter, value);
        return 0;
    }
    return refuse("there is no fault '%s'; docs/simulated-node.md lists them.", name);
}

static int inject_xid(struct member *member, struct asked *asked, const char *text) {
    uint64_t code;
    if (!number(text, &code) || code == 0 || code > 9999)
        return refuse("xid takes a code from 1 to 9999, not '%s'.", text);
    asked->xid.gpu = asked->gpu;
    asked->xid.code = (unsigned)code;
    fault_xid(member, &asked->xid);
    return 0;
}

static int inject_link_errors(struct member *member, const struct asked *asked, const char *link, const char *count) {
    uint64_t index, errors;
    if (!number(link, &index) || index >= member->node->gpus[asked->gpu].link_count)
        return refuse("that GPU has no NVLink '%s'.", link);
    if (!number(count, &errors))
        return refuse("link-errors takes how many, not '%s'.", count);
    node_lock(member);
    journal_add(member->node, &member->node->faults[asked->gpu].link_errors[index], errors);
    node_unlock(member);
    fault_wake(member);
    return 0;
}

static int inject_bad_cell(struct member *member, const struct asked *asked, const char *text) {
    uint64_t offset;
    if (!number(text, &offset))
        return refuse("bad-cell takes an offset in bytes, not '%s'.", text);
    node_lock(member);
    journal_put(member->node, &member->node->faults[asked->gpu].bad_cell, offset + 1);
    node_unlock(member);
    fault_wake(member);
    return 0;
}

static int inject_line(struct member *member, const char *text) {
    char path[PATH_MAX + sizeof "/" KMSG_FILE];
    snprintf(path, sizeof path, "%s/" KMSG_FILE, member->directory);
    int result = sim_kmsg_write(path, USER_PRIORITY, text);
    return result < 0 ? refuse("the kernel log takes no such line: %s.", strerror(-result)) : 0;
}

static int perform(struct member *member, struct asked *asked, int count, char **words) {
    const char *what = words[0];
    unsigned last = asked->every_gpu ? member->node->info.gpu_count - 1 : asked->gpu;
    if (strcmp(what, "lost") == 0 && count == 1)
        return inject_xid(member, asked, "79");
    if (strcmp(what, "restart") == 0 && count == 1) {
        fault_restart(member);
        return 0;
    }
    if ((strcmp(what, "reset") == 0 || strcmp(what, "clear") == 0) && count == 1) {
        for (unsigned gpu = asked->every_gpu ? 0 : asked->gpu; gpu <= last; gpu++)
            (*what == 'r' ? fault_reset : fault_clear)(member, gpu);
        return 0;
    }
    if (count == 2 && strcmp(what, "xid") == 0)
        return inject_xid(member, asked, words[1]);
    if (count == 2 && strcmp(what, "line") == 0)
        return inject_line(member, words[1]);
    if (count == 2 && strcmp(what, "bad-cell") == 0)
        return inject_bad_cell(member, asked, words[1]);
    if (count == 3 && strcmp(what, "link-errors") == 0)
        return inject_link_errors(member, asked, words[1], words[2]);
    uint64_t action;
    if (count == 2 && strcmp(what, "recovery-action") == 0) {
        if (!number(words[1], &action))
            return refuse("recovery-action takes a number, not '%s'.", words[1]);
        fault_set_recovery_action(member, asked->gpu, action);
        return 0;
    }
    if (count > 2)
        return refuse("'%s' does not take so much.", what);
    return inject_counter(member, asked, what, count == 2 ? words[1] : "1");
}

static const struct option options[] = {{"gpu", required_argument, NULL, 'g'},  {"gi", required_argument, NULL, 'i'},
                                        {"ci", required_argument, NULL, 'c'},   {"pid", required_argument, NULL, 'p'},
                                        {"text", required_argument, NULL, 't'}, {"no-log", no_argument, NULL, 'l'},
                                        {"no-event", no_argument, NULL, 'e'},   {0}};

static int read_options(int argc, char **argv, struct asked *asked) {
    *asked = (struct asked){.every_gpu = true, .xid = {.gpu_instance = FAULT_ANY, .compute_instance = FAULT_ANY}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        uint64_t value = 0;
        if (option == '?')
            return 2;
        if (strchr("gicp", option) && (!number(optarg, &value) || value > INT32_MAX))
            return refuse("--gpu, --gi, --ci and --pid take a number, not '%s'.", optarg);
        if (option == 'g') {
            asked->gpu = (unsigned)value;
            asked->every_gpu = false;
        }
        asked->xid.gpu_instance = option == 'i' ? (unsigned)value : asked->xid.gpu_instance;
        asked->xid.compute_instance = option == 'c' ? (unsigned)value : asked->xid.compute_instance;
        asked->xid.pid = option == 'p' ? value : asked->xid.pid;
        asked->xid.message = option == 't' ? optarg : asked->xid.message;
        asked->xid.unlogged |= option == 'l';
        asked->xid.unsignalled |= option == 'e';
    }
    return 0;
}

int inject(int argc, char **argv) {
    struct asked asked;
    struct member member;
    char reason[256];
    int result = read_options(argc, argv, &asked);
    if (result != 0)
        return result;
    if (argc - optind < 2)
        return refuse("%s", "inject takes the node's directory and what to inject.");
    result = member_join(argv[optind], true, &member);
    if (result < 0) {
        node_explain(argv[optind], result, reason);
        refuse("%s", reason);
        return 1;
    }
    result = asked.gpu < member.node->info.gpu_count ? perform(&member, &asked, argc - optind - 1, argv + optind + 1)
                                                     : refuse("%s", "the node has no such GPU.");
    member_leave(&member);
    return result;
}
