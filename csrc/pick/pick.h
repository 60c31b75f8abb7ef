/* What the files that pick tokens share. Not installed. */
#ifndef QRFT_PICK_H
#define QRFT_PICK_H

#include "core.h"

/* -------------------------------------------------------------------------------------------------- kernels ---- */

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

const pick_kernels *pick_kernels_of(enum lanes_kind kind);

/* -------------------------------------------------------------------------------------------------- filters ---- */

/* How to pick, made ready: scale turns differences of logits into exponents of 2. */
typedef struct {
    const pick_kernels *kernels;
    float temperature; /* 0: greedy */
    float scale;
    int64_t top_k; /* 0: off */
    double top_p;  /* 1: off */
    double min_p;  /* 0: off */
} pick_rule;

/* Logits of a row, all or some of them in their order. tokens[i] is the token of logit i; NULL: token i. */
typedef struct {
    const float *logits;
    const int32_t *tokens;
    int64_t count;
} pick_candidates;

/* Room for a row's candidates: as many of each as the vocabulary has tokens. */
typedef struct {
    float *logits;
    int32_t *tokens;
    float *values;
    float *weights;
} pick_scratch;

#define PICK_SCRATCH_BYTES 16 /* a token */

/*
 * What the rule's filters keep of a row. top: its highest logit; total: its sum of weights at the rule's temperature,
 * read where pick_needs_total.
 */
pick_candidates pick_filter(const pick_rule *rule, pick_candidates row, float top, double total, pick_scratch scratch);

static inline bool pick_has_filters(const pick_rule *rule) {
    return rule->temperature > 0 && (rule->top_k > 0 || rule->top_p < 1 || rule->min_p > 0);
}

static inline bool pick_needs_total(const pick_rule *rule) {
    return !pick_has_filters(rule) || (rule->top_p < 1 && rule->top_k == 0);
}

/* ------------------------------------------------------------------------------------------------------ rows ---- */

/* As qrft_tokens_pick, with vectors of a kind. */
int tokens_pick(enum lanes_kind kind, const qrft_logits *logits, const qrft_picking *picking,
                const qrft_streams *streams, int num_threads, void *scratch, int32_t *tokens, double *logprobs);

#endif
