/*
 * top_k, top_p and min_p without sorting. Each is a cut through the logits in their order of size. It is found by
 * halving: the weights above the middle tell in which half it lies, and only that half is looked at again.
 *
 * transformers cuts after the division by the temperature, which makes equal what lay a rounding apart. So a cut is
 * always at the lowest logit whose quotient is the one wanted.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "pick/filter.h"

/* --------------------------------------------------------------------------------------------------- floats ---- */

/* Floats as integers in the same order; -0 directly before 0. */
static uint32_t rank_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits ^ ((bits >> 31) ? UINT32_MAX : 0x80000000u);
}

static float float_of(uint32_t rank) {
    uint32_t bits = rank ^ ((rank >> 31) ? 0x80000000u : UINT32_MAX);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float clamped(double value) {
    return (float)fmin(fmax(value, -FLT_MAX), FLT_MAX);
}

/* Whether the float of this rank, divided by the temperature, is at least `bound`. */
static bool reaches(int64_t rank, float temperature, double bound) {
    return (double)(float_of((uint32_t)rank) / temperature) >= bound;
}

/*
 * The lowest float whose quotient by the temperature is at least `bound`; +inf when there is none. It lies a rounding
 * or two from the product, so it is looked for from there in doubling steps, and then by halving between the last two.
 */
static float lowest_scaled(float temperature, double bound) {
    const int64_t first = rank_of(-INFINITY), last = rank_of(INFINITY);
    int64_t low = rank_of(clamped(bound * (double)temperature)), high = low;
    for (int64_t step = 1; high < last && !reaches(high, temperature, bound); step *= 2) high += step;
    for (int64_t step = 1; low >= first && reaches(low, temperature, bound); step *= 2) low -= step;
    if (high > last) high = last;
    if (low < first) low = first - 1;
    while (low + 1 < high) { /* low does not reach the bound, high does or is the last */
        int64_t middle = low + (high - low) / 2;
        if (reaches(middle, temperature, bound)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return float_of((uint32_t)high);
}

/* ----------------------------------------------------------------------------------------------------- edge ---- */

/* The logit at which the weights, from the highest logit down, reach a target; the weights above it. */
typedef struct {
    float logit;
    double above;
} pick_edge;

/* The half of [low, high), by distance or by the number of floats; `low` when nothing is between. */
static float middle(float low, float high, bool by_distance) {
    float value = low / 2 + high / 2;
    if (by_distance && value > low && value < high) return value;
    uint32_t rank = rank_of(low);
    return float_of(rank + (rank_of(high) - rank) / 2);
}

#define FEW    16 /* logits: one group of lanes, the highest is the next to try */
#define HALVES 4  /* before logits are moved: about what moving them costs. The last is by number, so that it ends. */

/*
 * Halves the logits around the edge until it is found, and consumes both arrays. All logits are at least `low`, and
 * `top` is the highest. False when even all weights together do not reach the target.
 */
static bool find_edge(const pick_kernels *kernels, float *logits, float *weights, int64_t count, float low, float top,
                      double target, pick_edge *edge) {
    float high = nextafterf(top, INFINITY);
    double above = 0, above_high = 0; /* the weights no more in the arrays, and those from `high` on */
    bool is_reached = false;
    for (bool is_done = false; count > FEW && !is_done; above = above_high) {
        for (int i = 1; i <= HALVES; i++) {
            float pivot = middle(low, high, i < HALVES);
            is_done = pivot == low;
            if (is_done) break;
            double weight = above + kernels->weight_from(logits, weights, count, pivot);
            if (weight >= target) {
                low = pivot;
                is_reached = true;
            } else {
                high = pivot;
                above_high = weight;
            }
        }
        count = kernels->narrow(logits, weights, count, low, high);
    }
    /* Sums in another order can fall short by a rounding: then the edge is the last one tried. */
    *edge = (pick_edge){high, above};
    while (count > 0) {
        *edge = (pick_edge){kernels->highest(logits, count, -INFINITY), above};
        above += kernels->weight_from(logits, weights, count, edge->logit);
        if (above >= target) return true;
        count = kernels->narrow(logits, weights, count, -INFINITY, edge->logit);
    }
    return is_reached;
}

/* Those from `lowest` on, but masked tokens never. */
static pick_candidates collect(const pick_rule *rule, pick_candidates row, float lowest, pick_scratch scratch) {
    lowest = fmaxf(lowest, -FLT_MAX);
    int64_t count = rule->kernels->collect(row.logits, row.count, lowest, scratch.logits, scratch.tokens);
    return (pick_candidates){scratch.logits, scratch.tokens, count};
}

/* ----------------------------------------------------------------------------------------------------- top_k ---- */

/* The logit number top_k, or -inf. Consumes the logits, which are at least `low`. */
static float find_kth(const pick_rule *rule, float *logits, float *weights, int64_t count, float low, float top) {
    pick_edge edge;
    for (int64_t i = 0; i < count; i++) weights[i] = 1;
    bool is_found = find_edge(rule->kernels, logits, weights, count, low, top, (double)rule->top_k, &edge);
    return is_found ? edge.logit : -INFINITY;
}

/*
 * The lowest logit that top_k keeps. When top_k groups have a highest logit from a bound on, so have top_k tokens; and
 * only the few tokens from there on are looked at.
 */
static float cut_top_k(const pick_rule *rule, pick_candidates row, float top, pick_scratch scratch) {
    if (rule->top_k == 0 || rule->top_k >= row.count) return -INFINITY;
    int64_t num_tops = rule->kernels->tops(row.logits, row.count, scratch.values);
    float bound = find_kth(rule, scratch.values, scratch.weights, num_tops, -INFINITY, top);
    pick_candidates all = collect(rule, row, bound, scratch);
    float kth = find_kth(rule, scratch.logits, scratch.weights, all.count, bound, top);
    return lowest_scaled(rule->temperature, (double)(kth / rule->temperature));
}

/* ----------------------------------------------------------------------------------------------------- top_p ---- */

/*
 * All tokens below this together have less than half of 1 - top_p: none is kept. The rest of the bound makes up for
 * roundings.
 */
static float bound_of_top_p(const pick_rule *rule, int64_t count, float top, double total) {
    double weight = (1 - rule->top_p) * total / (double)count / 2;
    return clamped((double)top + log2(weight) / (double)rule->scale - fabs((double)top) * 1e-6);
}

/* Leaves out the first `excess` of the logits below `end`. */
static pick_candidates drop_below(pick_candidates all, float end, int64_t excess, pick_scratch scratch) {
    int64_t used = 0;
    for (int64_t i = 0; i < all.count; i++) {
        bool is_excess = excess > 0 && all.logits[i] < end;
        scratch.logits[used] = all.logits[i];
        scratch.tokens[used] = all.tokens[i];
        used += !is_excess;
        excess -= is_excess;
    }
    return (pick_candidates){scratch.logits, scratch.tokens, used};
}

/* Keeps only the last of the equally likely tokens on the edge: as many as it takes to reach the target. */
static pick_candidates cut_edge(const pick_rule *rule, pick_candidates all, pick_edge edge, float top, double target,
                                pick_scratch scratch) {
    float each, scaled = edge.logit / rule->temperature;
    float lowest = lowest_scaled(rule->temperature, (double)scaled);
    float end = lowest_scaled(rule->temperature, (double)nextafterf(scaled, INFINITY));
    const pick_kernels *kernels = rule->kernels;
    kernels->powers(&edge.logit, 1, top, rule->scale, &each);
    all.count = kernels->narrow(scratch.logits, scratch.tokens, all.count, lowest, INFINITY);
    int64_t num_sure = kernels->count_from(all.logits, all.count, end), num_ties = all.count - num_sure;
    int64_t num_above = kernels->count_from(all.logits, all.count, nextafterf(edge.logit, INFINITY));
    edge.above -= (double)each * (double)(num_above - num_sure); /* these too lie on the edge */
    double wanted = fmax(ceil((target - edge.above) / (double)each), 1);
    return wanted < (double)num_ties ? drop_below(all, end, num_ties - (int64_t)wanted, scratch) : all;
}

/* The most likely of the tokens from `lowest` on, until their sum reaches top_p of the total. */
static pick_candidates keep_top_p(const pick_rule *rule, pick_candidates row, float lowest, float top, double total,
                                  pick_scratch scratch) {
    const pick_kernels *kernels = rule->kernels;
    pick_candidates all = collect(rule, row, lowest, scratch);
    pick_edge edge;
    memcpy(scratch.values, all.logits, (size_t)all.count * sizeof *scratch.values);
    kernels->powers(all.logits, all.count, top, rule->scale, scratch.weights);
    if (rule->top_k > 0) total = kernels->weight_from(all.logits, scratch.weights, all.count, -INFINITY);
    double target = rule->top_p * total;
    if (!find_edge(kernels, scratch.values, scratch.weights, all.count, lowest, top, target, &edge)) return all;
    return cut_edge(rule, all, edge, top, target, scratch);
}

/* ----------------------------------------------------------------------------------------------------- filter ---- */

static float cut_min_p(const pick_rule *rule, float top) {
    if (rule->min_p <= 0) return -INFINITY;
    return lowest_scaled(rule->temperature, (double)(top / rule->temperature) + log(rule->min_p));
}

pick_candidates pick_filter(const pick_rule *rule, pick_candidates row, float top, double total, pick_scratch scratch) {
    float lowest = cut_top_k(rule, row, top, scratch), likely = cut_min_p(rule, top);
    if (rule->top_p >= 1) return collect(rule, row, fmaxf(lowest, likely), scratch);
    if (rule->top_k == 0) lowest = bound_of_top_p(rule, row.count, top, total);
    pick_candidates found = keep_top_p(rule, row, lowest, top, total, scratch);
    if (rule->min_p > 0) {
        found.count = rule->kernels->narrow(scratch.logits, scratch.tokens, found.count, likely, INFINITY);
    }
    return found;
}
