/* Shares a range of items among threads. */
#ifndef QRFT_TEXT_PARALLEL_H
#define QRFT_TEXT_PARALLEL_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Calls work(context, first, last) on ranges of at most `grain` items that together cover 0 .. num_items-1, from up
 * to num_threads threads. work returns false when there is no memory; the ranges not begun are then left out.
 * Returns QRFT_DONE or QRFT_NO_MEMORY.
 */
typedef bool (*qrft_work)(void *context, int64_t first, int64_t last);
int parallel_run(qrft_work work, void *context, int64_t num_items, int64_t grain, int num_threads);

#endif
