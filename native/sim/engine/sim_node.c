/* gpuslice-sim-node: makes a simulated node, and shows what really happened on it.
 *
 *   gpuslice-sim-node create --profile P [--gpus N] [--seed S] [--driver VERSION] DIR
 *   gpuslice-sim-node inject [OPTIONS] DIR FAULT [VALUE...]   (see docs/simulated-node.md)
 *   gpuslice-sim-node show DIR       JSON on standard output (see show.c)
 *   gpuslice-sim-node profiles      one name a line
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "inject.h"
#include "member.h"
#include "show.h"
#include "sysfs.h"

static int usage(void) {
    fprintf(stderr, "usage: gpuslice-sim-node create --profile P [--gpus N] [--seed S] [--driver VERSION] DIR\n"
                    "       gpuslice-sim-node show DIR\n"
                    "       gpuslice-sim-node inject [--gpu N] [--gi N] [--ci N] [--pid PID] [--text TEXT] [--no-log] "
                    "[--no-event] DIR FAULT [VALUE...]\n"
                    "       gpuslice-sim-node profiles\n");
    return 2;
}

/* False: not a whole number. */
static bool number(const char *text, unsigned long long *ret_value) {
    char *end;
    errno = 0;
    *ret_value = strtoull(text, &end, 10);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == 0;
}

_Static_assert(SIM_GPUS_MAX == 16, "what --gpus is told to take");

static int refuse(const char *rule, const char *text) {
    fprintf(stderr, "gpuslice-sim-node: %s, not '%s'.\n", rule, text);
    return 2;
}

static int tell_sysfs(const char *directory) {
    struct node_file *node;
    int result = node_map(directory, &node);
    if (result == 0) {
        result = sysfs_write(directory, node);
        munmap(node, sizeof *node);
    }
    if (result < 0)
        fprintf(stderr, "gpuslice-sim-node: cannot write %.200s/sys: %s.\n", directory, strerror(-result));
    return result < 0;
}

static int create(int argc, char **argv) {
    static const struct option options[] = {{"profile", required_argument, NULL, 'p'},
                                            {"gpus", required_argument, NULL, 'g'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"driver", required_argument, NULL, 'd'},
                                            {0}};
    const char *profile = NULL, *driver = NULL;
    unsigned long long gpus = 0, seed = 1;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'p')
            profile = optarg;
        else if (option == 'g' && (!number(optarg, &gpus) || gpus < 1 || gpus > SIM_GPUS_MAX))
            return refuse("--gpus takes a number from 1 to 16", optarg);
        else if (option == 's' && !number(optarg, &seed))
            return refuse("--seed takes a whole number", optarg);
        else if (option == 'd' && strspn(driver = optarg, "0123456789.") != strlen(optarg))
            return refuse("--driver takes a version like 580.95.05", optarg);
        else if (option == '?')
            return usage();
    }
    if (!profile || argc - optind != 1)
        return usage();
    char reason[256];
    int result = node_create(argv[optind], profile, (unsigned)gpus, seed, driver, reason);
    if (result == 0)
        return tell_sysfs(argv[optind]);
    fprintf(stderr, "gpuslice-sim-node: %s\n", reason);
    return result == -EINVAL ? 2 : 1; // no such profile: the call is wrong
}

static int show(const char *directory) {
    struct member member;
    int result = member_join(directory, true, &member);
    if (result < 0) {
        char reason[256];
        node_explain(directory, result, reason);
        fprintf(stderr, "gpuslice-sim-node: %s\n", reason);
        return 1;
    }
    show_node(&member, stdout);
    member_leave(&member);
    return 0;
}

static int profiles(void) {
    for (unsigned i = 0; profile_name(i); i++)
        puts(profile_name(i));
    return 0;
}

int main(int argc, char **argv) {
    if (argc >= 2 && strcmp(argv[1], "create") == 0)
        return create(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "inject") == 0)
        return inject(argc - 1, argv + 1);
    if (argc == 3 && strcmp(argv[1], "show") == 0)
        return show(argv[2]);
    if (argc == 2 && strcmp(argv[1], "profiles") == 0)
        return profiles();
    return usage();
}
