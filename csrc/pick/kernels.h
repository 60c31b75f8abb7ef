/* The work of picking tokens that goes over whole rows of logits, for each kind of vector. */
#ifndef QRFT_PICK_KERNELS_H
#define QRFT_PICK_KERNELS_H

#include <stdint.h>

#include "text/cpu.h"

/*
 * All sums run in 16 lanes, token i in lane i % 16, whatever the vectors of the processor: one of AVX-512, two of AVX2,
 * four of SSE2 or NEON. With plain IEEE operations and nothing fused, every kind gives the same bits.
 */
#define PICK_LANES 16

/* 2^((x - reference) * scale) below this is no chance worth counting, and where the powers end: masked tokens too. */
#define PICK_NO_WEIGHT 0x1p-126f

typedef struct {
    /* The highest of the logits and `top`. A NaN counts or not. */
    float (*highest)(const float *logits, int64_t count, float top);
    /* The sum of 2^((x - reference) * scale), each at least PICK_NO_WEIGHT. NaN when a logit is. */
    double (*weigh)(const float *logits, int64_t count, float reference, float scale);
    /* These powers themselves. */
    void (*powers)(const float *logits, int64_t count, float reference, float scale, float *powers);
    /* Writes the highest logits of groups that together are all; returns how many. */
    int64_t (*tops)(const float *logits, int64_t count, float *tops);
    /* Writes the logits that are at least `lowest`, in order, and where they stand; returns how many. */
    int64_t (*collect)(const float *logits, int64_t count, float lowest, float *values, int32_t *tokens);
    /* How many these are. */
    int64_t (*count_from)(const float *logits, int64_t count, float lowest);
    /* The sum of their weights. */
    double (*weight_from)(const float *logits, const float *weights, int64_t count, float lowest);
    /* Leaves only the logits in [lowest, end), in order, and their words of 32 bits in `beside`; returns how many. */
    int64_t (*narrow)(float *logits, void *beside, int64_t count, float lowest, float end);
} pick_kernels;

/* The kernels of a kind that cpu_has. */
const pick_kernels *pick_kernels_of(enum vector_kind kind);

#endif
