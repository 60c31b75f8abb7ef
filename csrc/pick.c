/*
 * Tokens from logits, by inverse CDF: a row's random number is a share of its sum of weights, and the token in whose
 * weight that share falls is picked. The weights are summed by blocks, so only one block is looked at token by token.
 */
#include <math.h>
#include <string.h>

#include "pick.h"

#define MIN_BLOCK 128 /* smaller ones cost small vocabularies more in sums than they save in the choice */
#define LOG2_E    1.4426950408889634

/* Beyond these bounds nothing changes: differences of logits are 1e-6 and more, or 0. Their scale stays finite. */
#define MIN_TEMPERATURE 1e-30
#define MAX_TEMPERATURE 1e30

/* ----------------------------------------------------------------------------------------------------- sums ---- */

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/*
 * Each block is weighed relative to the highest logit so far, so that a row is read from memory once; the blocks
 * before the highest are scaled down afterwards. -FLT_MAX because -inf minus -inf is no number.
 */
void pick_sum(pick_sums *sums, const pick_rule *rule, pick_candidates row, bool is_row) {
    const pick_kernels *kernels = rule->kernels;
    const float lowest = -0x1.fffffep127f;
    float references[PICK_MAX_BLOCKS], factors[PICK_MAX_BLOCKS], factors_at_1[PICK_MAX_BLOCKS];
    double sums_at_1[PICK_MAX_BLOCKS];
    int64_t size = (row.count / PICK_MAX_BLOCKS + MIN_BLOCK) / MIN_BLOCK * MIN_BLOCK;
    bool is_at_1 = rule->scale == (float)LOG2_E || rule->temperature == 0;
    float top = -INFINITY, last_top = top;
    int64_t block = 0;
    for (int64_t at = 0; at < row.count; at += size, block++) {
        const float *logits = row.logits + at;
        int64_t count = smaller(size, row.count - at);
        top = kernels->highest(logits, count, top);
        if (block == 0 || top > last_top) sums->top_block = block;
        last_top = top;
        references[block] = top > lowest ? top : lowest;
        sums->sums[block] = kernels->weigh(logits, count, references[block], rule->scale);
        if (is_row) {
            sums_at_1[block] =
                is_at_1 ? sums->sums[block] : kernels->weigh(logits, count, references[block], (float)LOG2_E);
        }
    }
    kernels->powers(references, block, top, rule->scale, factors);
    sums->total = sums->total_at_1 = 0;
    for (int64_t i = 0; i < block; i++) sums->total += sums->sums[i] *= (double)factors[i];
    if (is_row) {
        kernels->powers(references, block, top, (float)LOG2_E, factors_at_1);
        for (int64_t i = 0; i < block; i++) sums->total_at_1 += sums_at_1[i] * (double)factors_at_1[i];
    }
    sums->block_size = size;
    sums->num_blocks = block;
    sums->top = top;
}

/* --------------------------------------------------------------------------------------------------- choice ---- */

/* The number in [0, 1) of a stream at a position: splitmix64. */
static double uniform(uint64_t key, int64_t position) {
    uint64_t state = key + 0x9E3779B97F4A7C15u * ((uint64_t)position + 1);
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9u;
    state = (state ^ (state >> 27)) * 0x94D049BB133111EBu;
    state ^= state >> 31;
    return (double)(state >> 11) * 0x1p-53;
}

/* The first of the most likely. */
static int64_t likeliest(const float *logits, const pick_sums *sums) {
    int64_t at = sums->top_block * sums->block_size;
    while (logits[at] != sums->top) at++;
    return at;
}

/* The candidate in which `target` falls. A rounding at a block's end may miss all: then it is the last with a weight. */
static int64_t choose(const pick_rule *rule, pick_candidates row, const pick_sums *sums, double target) {
    double before = 0;
    int64_t block = 0, found = -1;
    while (block < sums->num_blocks - 1 && before + sums->sums[block] <= target) before += sums->sums[block++];
    int64_t end = smaller((block + 1) * sums->block_size, row.count);
    for (int64_t at = block * sums->block_size; at < end; at += PICK_LANES) {
        float powers[PICK_LANES];
        int64_t count = smaller(PICK_LANES, end - at);
        rule->kernels->powers(row.logits + at, count, sums->top, rule->scale, powers);
        for (int64_t i = 0; i < count; i++) {
            if (powers[i] <= PICK_NO_WEIGHT) continue;
            found = at + i;
            before += (double)powers[i];
            if (before > target) return found;
        }
    }
    return found >= 0 ? found : likeliest(row.logits, sums);
}

typedef struct {
    pick_rule rule;
    const qrft_logits *logits;
    const qrft_streams *streams;
    void *scratch;
    int64_t grain; /* rows a thread */
    int32_t *tokens;
    double *logprobs;
} pick_job;

static pick_rule make_rule(const qrft_picking *picking, enum lanes_kind kind) {
    double temperature = picking->temperature > 0 ? picking->temperature : 0;
    if (temperature > 0) temperature = fmin(fmax(temperature, MIN_TEMPERATURE), MAX_TEMPERATURE);
    return (pick_rule){
        .kernels = pick_kernels_of(kind),
        .temperature = (float)temperature,
        .scale = (float)(temperature > 0 ? LOG2_E / temperature : LOG2_E),
        .top_k = picking->top_k > 0 ? picking->top_k : 0,
        .top_p = picking->top_p < 1 ? fmax(picking->top_p, 0) : 1,
        .min_p = picking->min_p > 0 ? fmin(picking->min_p, 1) : 0,
    };
}

static pick_scratch scratch_at(void *scratch, int64_t num_vocab, int64_t thread) {
    float *at = (float *)scratch + thread * 3 * num_vocab;
    return (pick_scratch){at, (int32_t *)(void *)(at + num_vocab), at + 2 * num_vocab};
}

static bool is_finite(const pick_sums *sums) {
    return isfinite(sums->top) && !isnan(sums->total_at_1);
}

static int64_t pick_token(const pick_job *job, int64_t index, const float *logits, pick_sums *sums) {
    const pick_rule *rule = &job->rule;
    pick_candidates row = {logits, NULL, job->logits->num_vocab};
    if (rule->temperature <= 0) return likeliest(logits, sums);
    if (pick_has_filters(rule)) {
        pick_scratch scratch = scratch_at(job->scratch, row.count, index / job->grain);
        row = pick_filter(rule, row, sums->top, sums->total, scratch);
        pick_sum(sums, rule, row, false);
    }
    double number = uniform(job->streams->keys[index], job->streams->positions[index]);
    int64_t chosen = choose(rule, row, sums, number * sums->total);
    return row.tokens ? row.tokens[chosen] : chosen;
}

static bool pick_rows(void *context, int64_t first, int64_t last) {
    const pick_job *job = context;
    int64_t num_vocab = job->logits->num_vocab;
    for (int64_t i = first; i < last; i++) {
        const float *logits = job->logits->values + (job->logits->rows ? job->logits->rows[i] : i) * num_vocab;
        pick_sums sums;
        pick_sum(&sums, &job->rule, (pick_candidates){logits, NULL, num_vocab}, true);
        job->tokens[i] = -1;
        job->logprobs[i] = NAN;
        if (!is_finite(&sums)) continue;
        double log_total = log(sums.total_at_1), top = (double)sums.top;
        int64_t token = pick_token(job, i, logits, &sums);
        job->tokens[i] = (int32_t)token;
        job->logprobs[i] = (double)logits[token] - top - log_total;
    }
    return true;
}

int tokens_pick(enum lanes_kind kind, const qrft_logits *logits, const qrft_picking *picking,
                const qrft_streams *streams, int num_threads, void *scratch, int32_t *tokens, double *logprobs) {
    if (num_threads < 1) num_threads = 1;
    int64_t grain = (logits->num_rows + num_threads - 1) / num_threads;
    if (grain == 0) return QRFT_DONE;
    pick_job job = {make_rule(picking, kind), logits, streams, scratch, grain, tokens, logprobs};
    parallel_run(pick_rows, &job, logits->num_rows, grain, num_threads);
    for (int64_t i = 0; i < logits->num_rows; i++) {
        if (tokens[i] < 0) return QRFT_NOT_FINITE;
    }
    return QRFT_DONE;
}

int64_t qrft_tokens_scratch(int64_t num_vocab, int num_threads) {
    return 3 * (int64_t)sizeof(float) * num_vocab * (num_threads < 1 ? 1 : num_threads);
}

int qrft_tokens_pick(const qrft_logits *logits, const qrft_picking *picking, const qrft_streams *streams,
                     int num_threads, void *scratch, int32_t *tokens, double *logprobs) {
    return tokens_pick(lanes_best(), logits, picking, streams, num_threads, scratch, tokens, logprobs);
}

int qrft_tokens_keep(const float *values, int64_t num_vocab, const qrft_picking *picking, void *scratch,
                     uint8_t *kept) {
    pick_rule rule = make_rule(picking, lanes_best());
    pick_candidates row = {values, NULL, num_vocab};
    pick_sums sums;
    pick_sum(&sums, &rule, row, true);
    if (!is_finite(&sums)) return QRFT_NOT_FINITE;
    memset(kept, rule.temperature > 0 && !pick_has_filters(&rule), (size_t)num_vocab);
    if (rule.temperature <= 0) kept[likeliest(values, &sums)] = 1;
    if (!pick_has_filters(&rule)) return QRFT_DONE;
    row = pick_filter(&rule, row, sums.top, sums.total, scratch_at(scratch, num_vocab, 0));
    for (int64_t i = 0; i < row.count; i++) kept[row.tokens[i]] = 1;
    return QRFT_DONE;
}
