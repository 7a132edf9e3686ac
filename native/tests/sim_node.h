/* A simulated node of a test's own, and processes on it. */
#ifndef GPUSLICE_TEST_SIM_NODE_H
#define GPUSLICE_TEST_SIM_NODE_H

#include <sys/types.h>

/* Makes a node of this profile in a new temporary directory and names it to engine_attach(). */
void sim_node_new(const char *profile);

/* Runs `body` in a child that attaches to the node first; `argument` is passed on. */
pid_t sim_process(void (*body)(int argument), int argument);
/* The status from waitpid, after its end. */
int sim_process_end(pid_t pid);

/* A byte over a pipe: the child says "I am ready", the parent waits for it. */
struct sim_signal {
    int read_fd, write_fd;
};
struct sim_signal sim_signal_new(void);
void sim_signal_send(struct sim_signal signal);
void sim_signal_await(struct sim_signal signal);

/* Ends the test unless the state of the node is whole: totals add up, lists hold together, the dead hold nothing.
 * The calling process must be attached. */
void sim_node_check(void);

#endif
