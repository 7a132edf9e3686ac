/* What a test program needs: CHECK, and cases that are named as sentences.
 *
 *   CASE(a_refused_reservation_takes_nothing) { CHECK(...); }
 *   int main(int argc, char **argv) { return check_main(argc, argv); }
 *
 * Cases run in the order of the file. An argument runs only the cases whose names contain it. The first CHECK that
 * does not hold prints where and what, and ends the program with status 1.
 */
#ifndef GPUSLICE_CHECK_H
#define GPUSLICE_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check_case {
    const char *name;
    void (*run)(void);
    struct check_case *next;
};

__attribute__((unused)) static struct check_case *check_first, **check_last = &check_first;
__attribute__((weak)) const char *check_running = "no case";
/* Called, where it is set, before a CHECK that does not hold ends the process. */
__attribute__((weak)) void (*check_failing)(void);

static inline _Noreturn void check_fail(void) {
    if (check_failing)
        check_failing();
    _Exit(1); /* what other threads do meanwhile must not hold it up */
}

#define CASE(sentence)                                                                                                 \
    static void case_##sentence(void);                                                                                 \
    __attribute__((constructor)) static void register_##sentence(void) {                                               \
        static struct check_case self = {#sentence, case_##sentence, NULL};                                            \
        *check_last = &self;                                                                                           \
        check_last = &self.next;                                                                                       \
    }                                                                                                                  \
    static void case_##sentence(void)

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: not true: %s\n", __FILE__, __LINE__, check_running, #condition);               \
            check_fail();                                                                                              \
        }                                                                                                              \
    } while (0)

/* Two numbers that shall be the same; both are printed when they are not. */
#define CHECK_EQUAL(actual, expected)                                                                                  \
    do {                                                                                                               \
        long long check_actual = (long long)(actual), check_expected = (long long)(expected);                          \
        if (check_actual != check_expected) {                                                                          \
            fprintf(stderr, "%s:%d: %s: %s is %lld, not %lld\n", __FILE__, __LINE__, check_running, #actual,           \
                    check_actual, check_expected);                                                                     \
            check_fail();                                                                                              \
        }                                                                                                              \
    } while (0)

static inline int check_main(int argc, char **argv) {
    for (struct check_case *test = check_first; test; test = test->next) {
        if (argc > 1 && !strstr(test->name, argv[1]))
            continue;
        check_running = test->name;
        printf("%s\n", test->name);
        fflush(stdout);
        test->run();
    }
    return 0;
}

#endif
