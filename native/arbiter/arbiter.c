/* The arbiter's thread: looks, decides, publishes; sleeps on the doorbells when no share has work. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../region/share.h"
#include "arbiter_seat.h"

#define SEATS_MAX 256
/* A held slot promises a heartbeat every 100 ms, also while all sleep. */
#define BEAT_ASLEEP_NS UINT64_C(50000000)
#define FOREVER UINT64_MAX
/* A tenant that rings without end costs this much less than a core. */
static const struct timespec ring_pause = {.tv_nsec = 100000};

struct gpuslice_arbiter {
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows; never held while sleeping */
    struct arbiter_seat *seats[SEATS_MAX];
    struct arbiter_share *accounts[SEATS_MAX]; /* of seats, in their order */
    size_t count;
    struct arbiter_state state;
    bool stopping;
    int doorbells; /* epoll: the doorbells of all shares, and `nudge` */
    int nudge;     /* eventfd: the shares changed, or it is over */
};

static void read_all(struct gpuslice_arbiter *arbiter, uint64_t now_ns) {
    for (size_t i = 0; i < arbiter->count; i++)
        seat_read(arbiter->seats[i], now_ns);
}

static bool any(const struct gpuslice_arbiter *arbiter, bool (*holds)(const struct arbiter_share *)) {
    for (size_t i = 0; i < arbiter->count; i++)
        if (holds(arbiter->accounts[i]))
            return true;
    return false;
}

static bool is_live(const struct arbiter_share *share) {
    return share->live;
}

static bool is_busy(const struct arbiter_share *share) {
    return share->live && (share->in_flight || share->waiting);
}

static void set_doorbells(struct gpuslice_arbiter *arbiter, enum gpuslice_doorbell doorbell) {
    for (size_t i = 0; i < arbiter->count; i++)
        seat_set_doorbell(arbiter->seats[i], doorbell);
}

/* One look at everything. Returns when the next one is due. */
static uint64_t look(struct gpuslice_arbiter *arbiter) {
    uint64_t now_ns = gpuslice_now_ns();
    set_doorbells(arbiter, GPUSLICE_DOORBELL_WAIT); /* before reading: who waits from now on rings */
    read_all(arbiter, now_ns);
    uint64_t next_ns = arbiter_decide(&arbiter->state, arbiter->accounts, arbiter->count, now_ns);
    for (size_t i = 0; i < arbiter->count; i++)
        seat_write(arbiter->seats[i], now_ns);
    if (next_ns != FOREVER)
        return next_ns;
    set_doorbells(arbiter, GPUSLICE_DOORBELL_WORK);
    read_all(arbiter, now_ns); /* who started just now and did not see that it had to ring */
    if (any(arbiter, is_busy))
        return now_ns;
    return any(arbiter, is_live) ? now_ns + BEAT_ASLEEP_NS : FOREVER;
}

/* True: somebody rang. */
static bool wait_until(struct gpuslice_arbiter *arbiter, uint64_t next_ns) {
    uint64_t now_ns = gpuslice_now_ns(), left_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    struct timespec timeout = {.tv_sec = (time_t)(left_ns / 1000000000), .tv_nsec = (long)(left_ns % 1000000000)};
    struct pollfd doorbells = {.fd = arbiter->doorbells, .events = POLLIN};
    return ppoll(&doorbells, 1, next_ns == FOREVER ? NULL : &timeout, NULL) > 0;
}

/* Empties what rang. A process that is new to a share rings too, so the live slots are looked for again. */
static void answer_doorbells(struct gpuslice_arbiter *arbiter) {
    struct epoll_event events[16];
    char bytes[4096];
    int count = epoll_wait(arbiter->doorbells, events, 16, 0);
    for (int i = 0; i < count; i++) {
        struct arbiter_seat *seat = events[i].data.ptr;
        int fd = seat ? seat->files->doorbell : arbiter->nudge;
        /* Once: a tenant can write faster than this reads, and what is left rings again. */
        if (read(fd, bytes, sizeof(bytes)) > 0 && seat)
            seat->looked_ns = 0;
    }
}

static void *run(void *argument) {
    struct gpuslice_arbiter *arbiter = argument;
    pthread_setname_np(pthread_self(), "arbiter");
    prctl(PR_SET_TIMERSLACK, 10000UL); /* turns end on time to some 10 us; the default is 50 */
    pthread_mutex_lock(&arbiter->lock);
    while (!arbiter->stopping) {
        uint64_t next_ns = look(arbiter);
        pthread_mutex_unlock(&arbiter->lock);
        bool rang = wait_until(arbiter, next_ns);
        if (rang)
            clock_nanosleep(CLOCK_MONOTONIC, 0, &ring_pause, NULL);
        pthread_mutex_lock(&arbiter->lock);
        if (rang)
            answer_doorbells(arbiter);
    }
    pthread_mutex_unlock(&arbiter->lock);
    return NULL;
}

static void nudge(struct gpuslice_arbiter *arbiter) {
    uint64_t one = 1;
    /* Fails only when the counter is full, and then it is readable all the same. */
    if (write(arbiter->nudge, &one, sizeof(one)) < 0)
        return;
}

static int open_doorbells(struct gpuslice_arbiter *arbiter) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    arbiter->doorbells = epoll_create1(EPOLL_CLOEXEC);
    arbiter->nudge = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (arbiter->doorbells < 0 || arbiter->nudge < 0)
        return -errno;
    return epoll_ctl(arbiter->doorbells, EPOLL_CTL_ADD, arbiter->nudge, &event) < 0 ? -errno : 0;
}

static void free_arbiter(struct gpuslice_arbiter *arbiter) {
    if (arbiter->doorbells >= 0)
        close(arbiter->doorbells);
    if (arbiter->nudge >= 0)
        close(arbiter->nudge);
    for (size_t i = 0; i < arbiter->count; i++)
        free(arbiter->seats[i]);
    pthread_mutex_destroy(&arbiter->lock);
    free(arbiter);
}

int gpuslice_arbiter_start(struct gpuslice_arbiter **ret_arbiter, char *reason) {
    struct gpuslice_arbiter *arbiter = calloc(1, sizeof(*arbiter));
    if (!arbiter)
        return agent_reason(reason, -ENOMEM, "no memory for the arbiter");
    pthread_mutex_init(&arbiter->lock, NULL);
    arbiter->doorbells = arbiter->nudge = -1;
    int error = open_doorbells(arbiter);
    if (!error)
        error = -pthread_create(&arbiter->thread, NULL, run, arbiter);
    if (error) {
        free_arbiter(arbiter);
        return agent_reason(reason, error, "cannot start the arbiter: %s", strerror(-error));
    }
    *ret_arbiter = arbiter;
    return 0;
}

static int add_locked(struct gpuslice_arbiter *arbiter, struct arbiter_seat *seat) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = seat};
    if (arbiter->count == SEATS_MAX)
        return -ENOSPC;
    if (epoll_ctl(arbiter->doorbells, EPOLL_CTL_ADD, seat->files->doorbell, &event) < 0)
        return -errno;
    arbiter->seats[arbiter->count] = seat;
    arbiter->accounts[arbiter->count] = &seat->account;
    arbiter->count++;
    return 0;
}

int gpuslice_arbiter_add(struct gpuslice_arbiter *arbiter, struct gpuslice_agent_share *share, char *reason) {
    struct arbiter_seat *seat = calloc(1, sizeof(*seat));
    if (!seat)
        return agent_reason(reason, -ENOMEM, "no memory for another share");
    seat->files = share;
    pthread_mutex_lock(&arbiter->lock);
    int error = add_locked(arbiter, seat);
    if (!error)
        look(arbiter); /* the first heartbeat: the share is paced from now on, not when the thread wakes up */
    pthread_mutex_unlock(&arbiter->lock);
    if (error) {
        free(seat);
        return agent_reason(reason, error, "cannot pace another share of this GPU: %s", strerror(-error));
    }
    nudge(arbiter);
    return 0;
}

int gpuslice_arbiter_remove(struct gpuslice_arbiter *arbiter, struct gpuslice_agent_share *share) {
    struct arbiter_seat *removed = NULL;
    pthread_mutex_lock(&arbiter->lock);
    for (size_t i = 0; i < arbiter->count && !removed; i++) {
        if (arbiter->seats[i]->files != share)
            continue;
        removed = arbiter->seats[i];
        size_t after = --arbiter->count - i;
        memmove(&arbiter->seats[i], &arbiter->seats[i + 1], after * sizeof(arbiter->seats[0]));
        memmove(&arbiter->accounts[i], &arbiter->accounts[i + 1], after * sizeof(arbiter->accounts[0]));
        epoll_ctl(arbiter->doorbells, EPOLL_CTL_DEL, share->doorbell, NULL);
        arbiter_forget(&arbiter->state, &removed->account);
    }
    pthread_mutex_unlock(&arbiter->lock);
    free(removed);
    return removed ? 0 : -ENOENT;
}

void gpuslice_arbiter_stop(struct gpuslice_arbiter *arbiter) {
    pthread_mutex_lock(&arbiter->lock);
    arbiter->stopping = true;
    pthread_mutex_unlock(&arbiter->lock);
    nudge(arbiter);
    pthread_join(arbiter->thread, NULL);
    free_arbiter(arbiter);
}
