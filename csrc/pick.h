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
    /* Writes the logits that are at least `lowest`, in order, and where they stand; returns how many. */
    int64_t (*collect)(const float *logits, int64_t count, float lowest, float *values, int32_t *tokens);
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
    float *weights;
} pick_scratch;

/* What the rule's filters keep of a row. top: its highest logit; total: its sum of weights at the rule's temperature. */
pick_candidates pick_filter(const pick_rule *rule, pick_candidates row, float top, double total, pick_scratch scratch);

static inline bool pick_has_filters(const pick_rule *rule) {
    return rule->temperature > 0 && (rule->top_k > 0 || rule->top_p < 1 || rule->min_p > 0);
}

/* ----------------------------------------------------------------------------------------------------- sums ---- */

#define PICK_MAX_BLOCKS 256

/* The weights of candidates by blocks, so that a pick looks into one of them only. */
typedef struct {
    int64_t block_size;
    int64_t num_blocks;
    int64_t top_block;            /* the first one with the highest logit */
    float top;                    /* the highest logit */
    double total;                 /* of the weights */
    double total_at_1;            /* the same at temperature 1; set when asked for */
    double sums[PICK_MAX_BLOCKS]; /* of a block's weights, 1 for a token of the highest logit */
} pick_sums;

void pick_sum(pick_sums *sums, const pick_rule *rule, pick_candidates row, bool is_row);

/* As qrft_tokens_pick, with vectors of a kind. */
int tokens_pick(enum lanes_kind kind, const qrft_logits *logits, const qrft_picking *picking,
                const qrft_streams *streams, int num_threads, void *scratch, int32_t *tokens, double *logprobs);

#endif
