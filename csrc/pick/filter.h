/* What top_k, top_p and min_p leave of a row of logits. */
#ifndef QRFT_PICK_FILTER_H
#define QRFT_PICK_FILTER_H

#include <stdbool.h>
#include <stdint.h>

#include "pick/kernels.h"

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

#define PICK_SCRATCH_BYTES 16 /* per token */

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

#endif
