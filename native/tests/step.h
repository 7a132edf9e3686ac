/* A child process that is led through its work one machine instruction at a time, so that a test can kill or freeze
 * it between any two of them. What is tested is the code as shipped: there are no test points in it. */
#ifndef GPUSLICE_TEST_STEP_H
#define GPUSLICE_TEST_STEP_H

#include <stdbool.h>
#include <sys/types.h>

/* Forks a child that runs prepare(argument) freely and stops before act(argument). When act is done it stops again,
 * and ends with status 0 once it is let go. */
pid_t step_start(void (*prepare)(void *), void (*act)(void *), void *argument);

/* Lets the child execute one instruction. False: act is done. */
bool step_once(pid_t child);

/* Steps the child until observe() has returned `changes` different values in a row. False: act was done before. */
bool step_until_change(pid_t child, unsigned changes, unsigned long (*observe)(void));

/* Ends the child's stop for good: it runs to its end. Returns its exit status, or 128 + the signal that killed it. */
int step_release(pid_t child);
void step_kill(pid_t child);

#endif
