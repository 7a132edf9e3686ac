/* The simulated kernel's wall: what a cgroup may hold, whichever process of it asks, and however. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach.h"
#include "check.h"
#include "sim_node.h"
#include "temporary.h"
#include "walls.h"

#define GIB (UINT64_C(1) << 30)

static char root[256]; /* where cgroups can be made */
static struct sim_signal ready, go;

/* The mount of cgroup version 2, or of any controller: a cgroup is made there to see. */
static bool find_root(void) {
    static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory"};
    for (unsigned i = 0; i < sizeof mounts / sizeof mounts[0]; i++) {
        struct cgroup cgroup;
        snprintf(root, sizeof root, "%s/gpuslice-test-%d", mounts[i], getpid());
        if (cgroup_identify(mounts[i], &cgroup) == 0 && mkdir(root, 0755) == 0)
            return true;
    }
    return false;
}

static const char *cgroup_path(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static struct cgroup cgroup_of(const char *name) {
    struct cgroup cgroup;
    CHECK_EQUAL(cgroup_identify(cgroup_path(name), &cgroup), 0);
    return cgroup;
}

static struct cgroup new_cgroup(const char *name) {
    CHECK(mkdir(cgroup_path(name), 0755) == 0 || errno == EEXIST);
    return cgroup_of(name);
}

static void move_to(const char *path) {
    char procs[600];
    snprintf(procs, sizeof procs, "%s/cgroup.procs", path);
    int fd = open(procs, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(write(fd, "0", 1), 1);
    close(fd);
}

static void limit(const struct cgroup *cgroup, unsigned gpu, uint64_t hard) {
    CHECK_EQUAL(walls_set(&engine_self, cgroup, gpu, 0, hard), 0);
}

static uint64_t used(const struct cgroup *cgroup, unsigned gpu) {
    struct wall_limits limits;
    CHECK_EQUAL(walls_get(&engine_self, cgroup, gpu, &limits), 0);
    return limits.used_bytes;
}

static uint64_t overhead(void) {
    return engine_gpu(0)->context_overhead_bytes;
}

static void (*clean_up_further)(void);

static void clean_up(void) {
    static const char *const made[] = {"pod/container", "pod", "short", "next"};
    for (unsigned i = 0; i < sizeof made / sizeof made[0]; i++)
        rmdir(cgroup_path(made[i]));
    rmdir(root);
    if (clean_up_further)
        clean_up_further();
}

static void new_node(void) {
    static bool made;
    if (!made) {
        sim_node_new("2xa100-80g");
        clean_up_further = check_failing;
        check_failing = clean_up;
    }
    made = true;
    ready = sim_signal_new();
    go = sim_signal_new();
    CHECK_EQUAL(engine_attach(), 0);
}

static void end_well(pid_t child) {
    CHECK_EQUAL(sim_process_end(child), 0);
    sim_node_check();
}

/* Everything that takes memory, each time as much as there is left and a byte, then as much. */
static void is_held_to_four_gibibytes(int argument) {
    (void)argument;
    move_to(cgroup_path("pod/container"));
    CHECK_EQUAL(engine_context_open(0), 0);
    uint64_t pointer, rest = 4 * GIB - overhead();
    CHECK_EQUAL(engine_memory_alloc(0, rest + 1, &pointer), -ENOMEM);
    CHECK_EQUAL(engine_memory_reserve(0, rest + 1), -ENOMEM);
    struct engine_physical *physical;
    CHECK_EQUAL(engine_physical_create(0, rest + ENGINE_BLOCK_BYTES, &physical), -ENOMEM);
    CHECK_EQUAL(engine_physical_create(0, rest, &physical), 0);
    CHECK_EQUAL(engine_memory_alloc(0, 1, &pointer), -ENOMEM);
    CHECK_EQUAL(engine_context_open(0), -ENOMEM);
    engine_physical_release(physical);
    CHECK_EQUAL(engine_memory_alloc(0, rest, &pointer), 0);
    CHECK_EQUAL(engine_memory_free(pointer), 0);
}

CASE(a_cgroup_below_is_held_to_the_limit_by_every_call) {
    new_node();
    struct cgroup pod = new_cgroup("pod");
    new_cgroup("pod/container");
    limit(&pod, 0, 4 * GIB);
    end_well(sim_process(is_held_to_four_gibibytes, 0));
}

static void takes_gibibytes(int count) {
    uint64_t pointer;
    move_to(cgroup_path("pod/container"));
    CHECK_EQUAL(engine_memory_alloc(0, (uint64_t)count * GIB, &pointer), 0);
    sim_signal_send(ready);
    sim_signal_await(go);
}

CASE(two_processes_of_it_have_one_limit_until_one_is_killed) {
    new_node();
    struct cgroup pod = cgroup_of("pod");
    pid_t holder = sim_process(takes_gibibytes, 3);
    sim_signal_await(ready);
    CHECK_EQUAL(used(&pod, 0), 3 * GIB);
    pid_t other = fork();
    if (other == 0) {
        uint64_t pointer;
        CHECK_EQUAL(engine_attach(), 0);
        move_to(cgroup_path("pod/container"));
        CHECK_EQUAL(engine_memory_alloc(0, 2 * GIB, &pointer), -ENOMEM);
        CHECK_EQUAL(engine_memory_alloc(1, 2 * GIB, &pointer), 0); /* the other GPU has no limit */
        kill(holder, SIGKILL);
        while (engine_memory_alloc(0, 2 * GIB, &pointer) == -ENOMEM)
            sched_yield();
        _exit(0);
    }
    CHECK(WIFSIGNALED(sim_process_end(holder)));
    end_well(other);
}

CASE(a_process_outside_is_not_held) {
    new_node();
    uint64_t pointer;
    CHECK_EQUAL(engine_memory_alloc(0, 8 * GIB, &pointer), 0);
    CHECK_EQUAL(engine_memory_free(pointer), 0);
}

static void goes_out_of_the_pod_in_its_own_view(int argument) {
    (void)argument;
    uint64_t pointer;
    move_to(cgroup_path("pod/container"));
    CHECK_EQUAL(unshare(CLONE_NEWCGROUP | CLONE_NEWNS | CLONE_NEWPID), 0);
    pid_t inner = fork(); /* pid 1 of a namespace, and its cgroup calls itself the root */
    if (inner == 0) {
        CHECK_EQUAL(engine_attach(), 0);
        CHECK_EQUAL(engine_memory_alloc(0, 5 * GIB, &pointer), -ENOMEM);
        CHECK_EQUAL(engine_memory_alloc(0, 3 * GIB, &pointer), 0);
        _exit(0);
    }
    CHECK_EQUAL(sim_process_end(inner), 0);
}

CASE(namespaces_hide_nobody_from_it) {
    new_node();
    end_well(sim_process(goes_out_of_the_pod_in_its_own_view, 0));
}

/* As a runtime shows a container its own cgroup as the root of all, and, in the node's directory, all of them. */
static void sees_only_its_own_cgroup(int argument) {
    (void)argument;
    char trees[PATH_MAX + 16], mount_point[64];
    snprintf(mount_point, sizeof mount_point, "%.*s", (int)(strrchr(root, '/') - root), root);
    snprintf(trees, sizeof trees, "%s/" NODE_CGROUPS, engine_self.directory);
    move_to(cgroup_path("pod/container"));
    CHECK_EQUAL(unshare(CLONE_NEWCGROUP | CLONE_NEWNS), 0);
    CHECK_EQUAL(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    CHECK(mkdir(trees, 0755) == 0 || errno == EEXIST);
    CHECK_EQUAL(mount(mount_point, trees, NULL, MS_BIND, NULL), 0);
    CHECK_EQUAL(mount(cgroup_path("pod/container"), mount_point, NULL, MS_BIND, NULL), 0);
    CHECK(access(cgroup_path("pod"), F_OK) < 0);
    uint64_t pointer;
    CHECK_EQUAL(engine_memory_alloc(0, 5 * GIB, &pointer), -ENOMEM);
    CHECK_EQUAL(engine_memory_alloc(0, 3 * GIB, &pointer), 0);
}

CASE(a_container_that_sees_nothing_above_it_is_held) {
    new_node();
    end_well(sim_process(sees_only_its_own_cgroup, 0));
    char trees[PATH_MAX + 16];
    snprintf(trees, sizeof trees, "%s/" NODE_CGROUPS, engine_self.directory);
    rmdir(trees);
}

static void is_moved_while_it_lives(int argument) {
    (void)argument;
    uint64_t first, second;
    CHECK_EQUAL(engine_memory_alloc(0, 3 * GIB, &first), 0);
    move_to(cgroup_path("pod"));
    CHECK_EQUAL(engine_memory_alloc(0, 2 * GIB, &second), -ENOMEM);
    char outside[64];
    snprintf(outside, sizeof outside, "%.*s", (int)(strrchr(root, '/') - root), root);
    move_to(outside);
    CHECK_EQUAL(engine_memory_alloc(0, 2 * GIB, &second), 0);
}

CASE(whoever_moves_takes_what_it_holds_along) {
    new_node();
    end_well(sim_process(is_moved_while_it_lives, 0));
}

static void follows_a_change(int argument) {
    (void)argument;
    uint64_t pointer, more;
    move_to(cgroup_path("pod"));
    CHECK_EQUAL(engine_memory_alloc(0, 4 * GIB, &pointer), 0);
    sim_signal_send(ready);
    sim_signal_await(go);
    CHECK_EQUAL(engine_memory_alloc(0, GIB, &more), 0);
    CHECK_EQUAL(engine_memory_alloc(0, GIB, &more), -ENOMEM);
}

CASE(a_new_limit_holds_at_the_next_allocation) {
    new_node();
    struct cgroup pod = cgroup_of("pod");
    pid_t child = sim_process(follows_a_change, 0);
    sim_signal_await(ready);
    limit(&pod, 0, 5 * GIB);
    CHECK_EQUAL(used(&pod, 0), 4 * GIB);
    sim_signal_send(go);
    end_well(child);
}

static void is_free(int argument) {
    (void)argument;
    uint64_t pointer;
    move_to(cgroup_path("pod"));
    CHECK_EQUAL(engine_memory_alloc(0, 8 * GIB, &pointer), 0);
}

CASE(a_wall_goes_with_its_last_limit_and_with_its_cgroup) {
    new_node();
    struct cgroup pod = cgroup_of("pod");
    struct wall_limits limits;
    limit(&pod, 0, WALL_NONE);
    CHECK_EQUAL(walls_get(&engine_self, &pod, 0, &limits), -ENOENT);
    end_well(sim_process(is_free, 0));
    struct cgroup short_lived = new_cgroup("short");
    limit(&short_lived, 0, GIB);
    CHECK_EQUAL(rmdir(cgroup_path("short")), 0);
    limit(&pod, 1, GIB);
    CHECK_EQUAL(walls_get(&engine_self, &short_lived, 0, &limits), -ENOENT);
    CHECK_EQUAL(walls_get(&engine_self, &pod, 1, &limits), 0);
}

CASE(more_cgroups_than_the_node_has_walls_for_come_one_after_another) {
    new_node();
    for (unsigned i = 0; i < NODE_WALLS + 10; i++) {
        struct cgroup cgroup = new_cgroup("next");
        limit(&cgroup, 0, GIB);
        CHECK_EQUAL(rmdir(cgroup_path("next")), 0);
    }
}

int main(int argc, char **argv) {
    if (geteuid() != 0 || !find_root()) {
        fprintf(stderr, "skipped: no cgroup can be made here\n");
        return 77; /* CTest: skipped */
    }
    int result = check_main(argc, argv);
    clean_up_further = NULL;
    clean_up();
    return result;
}
