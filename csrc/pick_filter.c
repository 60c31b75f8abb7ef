/*
 * top_k, top_p and min_p without sorting. Each is a cut through the logits in their order of size, and weights never
 * fall as logits rise, so a cut is found by radix: sums by 256 ranges of logits, then by 256 ranges of the one in which
 * the cut lies, until it is a single logit.
 *
 * transformers cuts after the division by the temperature, which makes equal what lay a rounding apart. So a cut is
 * always at the lowest logit whose quotient is the one wanted.
 */
#include <math.h>
#include <string.h>

#include "pick.h"

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
    const double most = 0x1.fffffep127;
    return (float)fmin(fmax(value, -most), most);
}

/* The lowest float whose quotient by the temperature is at least `bound`; +inf when there is none. */
static float lowest_scaled(float temperature, double bound) {
    const int64_t first = rank_of(-INFINITY), last = rank_of(INFINITY);
    int64_t step = 1, high = rank_of(clamped(bound * (double)temperature)), low = high;
#define REACHES(rank) ((double)(float_of((uint32_t)(rank)) / temperature) >= bound)
    while (high < last && !REACHES(high)) high += step, step *= 2;
    if (high > last) high = last;
    for (step = 1; low >= first && REACHES(low); step *= 2) low -= step;
    if (low < first) low = first - 1;
    while (low + 1 < high) { /* low does not reach the bound, high does or is the last */
        int64_t middle = low + (high - low) / 2;
        if (REACHES(middle)) {
            high = middle;
        } else {
            low = middle;
        }
    }
#undef REACHES
    return float_of((uint32_t)high);
}

/* ----------------------------------------------------------------------------------------------------- cuts ---- */

/* Kept is a logit of at least `sure`, and one of at least `lowest` at or after the place `first_tie`. */
typedef struct {
    float lowest;
    float sure;
    int64_t first_tie;
} pick_cut;

static pick_candidates keep(pick_candidates all, pick_cut cut, pick_scratch scratch) {
    int64_t used = 0;
    for (int64_t i = 0; i < all.count; i++) {
        float logit = all.logits[i];
        scratch.logits[used] = logit;
        scratch.tokens[used] = all.tokens[i];
        used += (logit >= cut.sure) | ((logit >= cut.lowest) & (i >= cut.first_tie));
    }
    return (pick_candidates){scratch.logits, scratch.tokens, used};
}

static pick_candidates collect(const pick_rule *rule, pick_candidates row, float lowest, pick_scratch scratch) {
    int64_t count = rule->kernels->collect(row.logits, row.count, lowest, scratch.logits, scratch.tokens);
    return (pick_candidates){scratch.logits, scratch.tokens, count};
}

#define NUM_RANGES 256

/* The logit at which the weights from the highest down reach the target, and the weights above it. */
typedef struct {
    float logit;
    double above;
} pick_edge;

static uint32_t range_of(const float *logits, int64_t count, uint32_t *base) {
    uint32_t last = 0;
    *base = UINT32_MAX;
    for (int64_t i = 0; i < count; i++) {
        uint32_t rank = rank_of(logits[i]);
        if (rank < *base) *base = rank;
        if (rank > last) last = rank;
    }
    return last - *base;
}

/* weights NULL: 1 each. False when even all of them do not reach the target. */
static bool find_edge(const float *logits, const float *weights, int64_t count, double target, pick_edge *edge) {
    uint32_t base, width = range_of(logits, count, &base);
    double above = 0;
    for (bool is_first = true;; is_first = false) {
        int shift = 0;
        while (width >> shift >= NUM_RANGES) shift++;
        double sums[NUM_RANGES] = {0}, above_it = 0;
        for (int64_t i = 0; i < count; i++) {
            uint32_t offset = rank_of(logits[i]) - base;
            if (offset <= width) sums[offset >> shift] += weights ? (double)weights[i] : 1.0;
        }
        int64_t found = -1;
        for (int64_t range = width >> shift; range >= 0 && (found < 0 || above < target); range--) {
            if (sums[range] <= 0) continue;
            found = range;
            above_it = above;
            above += sums[range];
        }
        if (is_first && above < target) return false;
        above = above_it;
        base += (uint32_t)found << shift;
        width = (1u << shift) - 1;
        if (shift > 0) continue;
        *edge = (pick_edge){float_of(base), above};
        return true;
    }
}

/* ---------------------------------------------------------------------------------------------------- top_k ---- */

#define GROUP 64

/* At least top_k logits reach this: as many groups have a highest one that does. */
static float bound_of_top_k(const pick_rule *rule, pick_candidates row, float *highest) {
    int64_t num_groups = (row.count + GROUP - 1) / GROUP;
    pick_edge edge;
    for (int64_t group = 0, at = 0; group < num_groups; group++, at += GROUP) {
        highest[group] = rule->kernels->highest(row.logits + at, row.count - at < GROUP ? row.count - at : GROUP,
                                                -INFINITY);
    }
    return find_edge(highest, NULL, num_groups, (double)rule->top_k, &edge) ? edge.logit : -INFINITY;
}

static pick_candidates keep_top_k(const pick_rule *rule, pick_candidates row, pick_scratch scratch) {
    float bound = bound_of_top_k(rule, row, scratch.weights);
    pick_edge edge = {-INFINITY, 0};
    pick_candidates found =
        collect(rule, row, lowest_scaled(rule->temperature, (double)(bound / rule->temperature)), scratch);
    find_edge(found.logits, NULL, found.count, (double)rule->top_k, &edge);
    float lowest = lowest_scaled(rule->temperature, (double)(edge.logit / rule->temperature));
    return keep(found, (pick_cut){lowest, lowest, 0}, scratch);
}

/* ---------------------------------------------------------------------------------------------------- top_p ---- */

/*
 * All tokens below this together have less than half of 1 - top_p: none is kept. The rest of the bound makes up for
 * roundings.
 */
static float bound_of_top_p(const pick_rule *rule, int64_t count, float top, double total) {
    double weight = (1 - rule->top_p) * total / (double)count / 2;
    return clamped((double)top + log2(weight) / (double)rule->scale - fabs((double)top) * 1e-6);
}

/* Of the tokens in [cut.lowest, cut.sure), all equally likely, the last are kept: so many that the target is reached. */
static void cut_ties(pick_cut *cut, pick_candidates all, const float *weights, pick_edge edge, double target) {
    double each = 0;
    int64_t num_ties = 0;
    for (int64_t i = 0; i < all.count; i++) {
        if (!(all.logits[i] >= cut->lowest && all.logits[i] < cut->sure)) continue;
        num_ties++;
        each = (double)weights[i];
        if (all.logits[i] > edge.logit) edge.above -= each;
    }
    double wanted = ceil((target - edge.above) / each);
    if (num_ties == 0 || wanted >= (double)num_ties) return;
    int64_t at = all.count;
    for (int64_t left = wanted > 1 ? (int64_t)wanted : 1; left > 0;) {
        at--;
        left -= all.logits[at] >= cut->lowest && all.logits[at] < cut->sure;
    }
    cut->first_tie = at;
}

static pick_cut cut_top_p(const pick_rule *rule, pick_candidates all, float top, double total, float *weights) {
    pick_cut cut = {-INFINITY, -INFINITY, 0};
    pick_edge edge;
    rule->kernels->powers(all.logits, all.count, top, rule->scale, weights);
    if (rule->top_k > 0) {
        total = 0;
        for (int64_t i = 0; i < all.count; i++) total += (double)weights[i];
    }
    if (!find_edge(all.logits, weights, all.count, rule->top_p * total, &edge)) return cut;
    float scaled = edge.logit / rule->temperature;
    cut.lowest = lowest_scaled(rule->temperature, (double)scaled);
    cut.sure = lowest_scaled(rule->temperature, (double)nextafterf(scaled, INFINITY));
    cut_ties(&cut, all, weights, edge, rule->top_p * total);
    return cut;
}

/* ---------------------------------------------------------------------------------------------------- min_p ---- */

static float bound_of_min_p(const pick_rule *rule, float top) {
    if (rule->min_p <= 0) return -INFINITY;
    return lowest_scaled(rule->temperature, (double)(top / rule->temperature) + log(rule->min_p));
}

/* ---------------------------------------------------------------------------------------------------- filter ---- */

pick_candidates pick_filter(const pick_rule *rule, pick_candidates row, float top, double total,
                            pick_scratch scratch) {
    float bound = bound_of_min_p(rule, top), lowest = bound;
    pick_cut cut = {lowest, lowest, 0};
    pick_candidates found;
    if (rule->top_k > 0) {
        found = keep_top_k(rule, row, scratch);
    } else {
        if (rule->top_p < 1) lowest = fmaxf(lowest, bound_of_top_p(rule, row.count, top, total));
        found = collect(rule, row, lowest, scratch);
    }
    if (rule->top_p < 1) cut = cut_top_p(rule, found, top, total, scratch.weights);
    cut.lowest = fmaxf(cut.lowest, bound);
    cut.sure = fmaxf(cut.sure, bound);
    return keep(found, cut, scratch);
}
