/* Shares a range of items among threads. */
#include <pthread.h>
#include <stdatomic.h>

#include "qrft.h"
#include "text/parallel.h"

/* More threads than this gain nothing where memory bandwidth is the limit, and their handles fit on the stack. */
#define MAX_THREADS 256

typedef struct {
    qrft_work work;
    void *context;
    int64_t num_items;
    int64_t grain;
    _Atomic int64_t next;
    atomic_bool failed;
} job;

/* A thread takes the next range when it is done with one, so a few long texts do not hold up the others. */
static void *take_ranges(void *argument) {
    job *shared = argument;
    while (!atomic_load(&shared->failed)) {
        int64_t first = atomic_fetch_add(&shared->next, shared->grain);
        if (first >= shared->num_items) break;
        int64_t rest = shared->num_items - first;
        int64_t last = first + (rest < shared->grain ? rest : shared->grain);
        if (!shared->work(shared->context, first, last)) atomic_store(&shared->failed, true);
    }
    return NULL;
}

static int useful_threads(const job *shared, int num_threads) {
    int64_t ranges = shared->num_items / shared->grain + 1;
    if (num_threads > ranges) num_threads = (int)ranges;
    if (num_threads > MAX_THREADS) num_threads = MAX_THREADS;
    return num_threads < 1 ? 1 : num_threads;
}

int parallel_run(qrft_work work, void *context, int64_t num_items, int64_t grain, int num_threads) {
    job shared = {.work = work, .context = context, .num_items = num_items, .grain = grain};
    pthread_t threads[MAX_THREADS];
    int started = 0;
    int helpers = useful_threads(&shared, num_threads) - 1;
    while (started < helpers && pthread_create(&threads[started], NULL, take_ranges, &shared) == 0) started++;
    take_ranges(&shared);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    return atomic_load(&shared.failed) ? QRFT_NO_MEMORY : QRFT_DONE;
}
