/* The table of who is charged for what: against a plain array, and from many threads. */
#include <pthread.h>

#include "../shim/memory/table.h"
#include "check.h"

#define KEYS 5000u
#define STEPS 400000u
#define THREADS 4u

static uint64_t key_of(unsigned number) {
    return UINT64_C(0x7f0000000000) + number * UINT64_C(512);
}

static struct memory_record record_of(unsigned number, void *owner) {
    return (struct memory_record){.key = key_of(number), .bytes = number, .owner = owner};
}

CASE(it_holds_what_was_put_and_not_what_was_taken) {
    static struct memory_table table;
    static bool held[KEYS];
    struct memory_record found, stale;
    unsigned seed = 1;
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned number = (unsigned)rand_r(&seed) % KEYS;
        struct memory_record record = record_of(number, NULL);
        if (rand_r(&seed) % 2) {
            CHECK(memory_table_put(&table, &record, &stale));
            CHECK((stale.key != 0) == held[number]);
            held[number] = true;
        } else {
            CHECK(memory_table_take(&table, record.key, &found) == held[number]);
            CHECK(!held[number] || found.bytes == number);
            held[number] = false;
        }
    }
    for (unsigned number = 0; number < KEYS; number++)
        CHECK(memory_table_get(&table, key_of(number), NULL) == held[number]);
}

CASE(a_counted_key_is_gone_at_zero_and_remembers_its_first_kind) {
    static struct memory_table table;
    uint16_t kind = GPUSLICE_MEMORY_MANAGED;
    CHECK_EQUAL(memory_table_count(&table, 7, 1, &kind), 1);
    kind = GPUSLICE_MEMORY_DATA;
    CHECK_EQUAL(memory_table_count(&table, 7, 1, &kind), 2);
    CHECK_EQUAL(kind, GPUSLICE_MEMORY_MANAGED);
    CHECK_EQUAL(memory_table_count(&table, 7, -1, &kind), 1);
    CHECK_EQUAL(memory_table_count(&table, 7, -1, &kind), 0);
    CHECK(!memory_table_get(&table, 7, NULL));
    CHECK_EQUAL(memory_table_count(&table, 7, -1, &kind), -1);
}

CASE(nothing_is_held_by_the_name_of_a_free_place) {
    static struct memory_table table;
    struct memory_record found, stale;
    for (unsigned number = 0; number < KEYS; number++) {
        struct memory_record record = record_of(number, &table);
        CHECK(memory_table_put(&table, &record, &stale));
        CHECK(number % 2 || memory_table_take(&table, record.key, NULL));
    }
    CHECK(!memory_table_get(&table, 0, &found));
    CHECK(!memory_table_take(&table, 0, &found));
}

static void count_visit(const struct memory_record *record, void *counter) {
    (void)record;
    ++*(unsigned *)counter;
}

CASE(all_of_one_owner_can_be_taken_and_nothing_else) {
    static struct memory_table table;
    struct memory_record stale;
    int mine, other, heir;
    unsigned visited = 0;
    for (unsigned number = 0; number < KEYS; number++) {
        struct memory_record record = record_of(number, number % 3 ? (void *)&mine : (void *)&other);
        CHECK(memory_table_put(&table, &record, &stale));
    }
    memory_table_reown(&table, &mine, &heir);
    memory_table_take_all(&table, &mine, count_visit, &visited);
    CHECK_EQUAL(visited, 0);
    memory_table_take_all(&table, &heir, count_visit, &visited);
    CHECK_EQUAL(visited, KEYS - (KEYS + 2) / 3);
    for (unsigned number = 0; number < KEYS; number++)
        CHECK(memory_table_get(&table, key_of(number), NULL) == (number % 3 == 0));
}

static struct memory_table shared;

/* Each thread has keys of its own, in the same shards, and all count one key. */
static void *put_and_take(void *first) {
    unsigned seed = *(unsigned *)first;
    struct memory_record stale, found;
    uint16_t kind = 0;
    for (unsigned step = 0; step < STEPS / 8; step++) {
        struct memory_record record = record_of((unsigned)rand_r(&seed) % KEYS * THREADS + *(unsigned *)first, NULL);
        CHECK(memory_table_put(&shared, &record, &stale));
        CHECK(memory_table_count(&shared, 3, 1, &kind) > 0);
        CHECK(memory_table_take(&shared, record.key, &found) && found.bytes == record.bytes);
        CHECK(memory_table_count(&shared, 3, -1, &kind) >= 0);
    }
    return NULL;
}

CASE(many_threads_do_not_lose_each_others_records) {
    pthread_t threads[THREADS];
    unsigned first[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        first[i] = i;
        CHECK(!pthread_create(&threads[i], NULL, put_and_take, &first[i]));
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned number = 0; number < KEYS * THREADS; number++)
        CHECK(!memory_table_get(&shared, key_of(number), NULL));
    CHECK(!memory_table_get(&shared, 3, NULL));
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
