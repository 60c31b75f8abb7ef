/*
 * Tokens from logits, by inverse CDF: a row's random number is a share of its sum of weights, and the token in whose
 * weight that share falls is picked. The weights are summed by blocks, so only one block is looked at token by token.
 */
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "pick/filter.h"
#include "pick/kernels.h"
#include "pick/pick.h"
#include "text/parallel.h"

#define MIN_BLOCK 128 /* smaller ones cost small vocabularies more in sums than they save in the choice */
#define LOG2_E    1.4426950408889634

/* Beyond these bounds nothing changes: differences of logits are 1e-6 and more, or 0. Their scale stays finite. */
#define MIN_TEMPERATURE 1e-30
#define MAX_TEMPERATURE 1e30

/* ----------------------------------------------------------------------------------------------------- sums ---- */

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

#define MAX_BLOCKS 256

/* The weights of candidates by blocks, so that a pick looks into one of them only. */
typedef struct {
    int64_t block_size;
    int64_t num_blocks;
    int64_t top_block; /* the first one with the highest logit */
    float top;         /* the highest logit */
    double total;
    double total_at_1;       /* the same at temperature 1, when asked for */
    double sums[MAX_BLOCKS]; /* by block; the weight of a token of the highest logit is 1 */
} block_sums;

/* Scales the sums as if all blocks had been weighed relative to the highest logit. Returns the total. */
static double scale_down(double *sums, const pick_kernels *kernels, const float *references, int64_t num_blocks,
                         float top, float scale) {
    float factors[MAX_BLOCKS];
    double total = 0;
    kernels->powers(references, num_blocks, top, scale, factors);
    for (int64_t i = 0; i < num_blocks; i++) total += sums[i] *= (double)factors[i];
    return total;
}

/*
 * Weighs by a scale, and at temperature 1 too unless total_at_1 is known already. Each block is weighed relative to the
 * highest logit so far, so that a row is read from memory once. -FLT_MAX because -inf minus -inf is no number.
 */
static void sum_blocks(block_sums *sums, const pick_kernels *kernels, pick_candidates row, float scale, bool wants_1) {
    float references[MAX_BLOCKS], top = -INFINITY;
    double sums_at_1[MAX_BLOCKS];
    int64_t size = (row.count / MAX_BLOCKS + MIN_BLOCK) / MIN_BLOCK * MIN_BLOCK, block = 0;
    bool weighs_1 = wants_1 && scale != (float)LOG2_E;
    sums->block_size = size;
    sums->top_block = 0;
    do { /* a row has a logit, so it has a block */
        const float *logits = row.logits + block * size;
        int64_t count = smaller(size, row.count - block * size);
        float highest = kernels->highest(logits, count, top);
        if (highest > top) sums->top_block = block;
        top = highest;
        references[block] = top > -FLT_MAX ? top : -FLT_MAX;
        sums->sums[block] = kernels->weigh(logits, count, references[block], scale);
        if (weighs_1) sums_at_1[block] = kernels->weigh(logits, count, references[block], (float)LOG2_E);
    } while (++block * size < row.count);
    sums->num_blocks = block;
    sums->top = top;
    sums->total = scale_down(sums->sums, kernels, references, block, top, scale);
    if (!wants_1) return;
    sums->total_at_1 = weighs_1 ? scale_down(sums_at_1, kernels, references, block, top, (float)LOG2_E) : sums->total;
}

static void sum_row(block_sums *sums, const pick_rule *rule, pick_candidates row) {
    sum_blocks(sums, rule->kernels, row, pick_needs_total(rule) ? rule->scale : (float)LOG2_E, true);
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
static int64_t likeliest(const float *logits, const block_sums *sums) {
    int64_t at = sums->top_block * sums->block_size;
    while (logits[at] != sums->top) at++;
    return at;
}

/*
 * The candidate in which `target` falls. A rounding at a block's end may miss all: then it is the last with a weight.
 */
static int64_t choose(const pick_rule *rule, pick_candidates row, const block_sums *sums, double target) {
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
    const double *temperatures;
    const qrft_logits *logits;
    const qrft_streams *streams;
    void *scratch;
    int32_t *tokens;
    double *logprobs;
    _Atomic int64_t next_row;
} pick_job;

static pick_rule at_temperature(pick_rule rule, double asked) {
    double temperature = asked > 0 ? fmin(fmax(asked, MIN_TEMPERATURE), MAX_TEMPERATURE) : 0;
    rule.temperature = (float)temperature;
    rule.scale = (float)(temperature > 0 ? LOG2_E / temperature : LOG2_E);
    return rule;
}

static pick_rule make_rule(const qrft_picking *picking, enum vector_kind kind) {
    pick_rule rule = {
        .kernels = pick_kernels_of(kind),
        .top_k = picking->top_k > 0 ? picking->top_k : 0,
        .top_p = picking->top_p < 1 ? fmax(picking->top_p, 0) : 1,
        .min_p = picking->min_p > 0 ? fmin(picking->min_p, 1) : 0,
    };
    return at_temperature(rule, picking->temperature);
}

static pick_scratch scratch_at(void *scratch, int64_t num_vocab, int64_t thread) {
    char *at = (char *)scratch + thread * num_vocab * PICK_SCRATCH_BYTES;
    int64_t size = num_vocab * (int64_t)sizeof(float);
    return (pick_scratch){(void *)at, (void *)(at + size), (void *)(at + 2 * size), (void *)(at + 3 * size)};
}

static bool is_finite(const block_sums *sums) {
    return isfinite(sums->top) && !isnan(sums->total_at_1);
}

static int64_t pick_token(const pick_job *job, const pick_rule *rule, int64_t index, int64_t worker,
                          const float *logits, block_sums *sums) {
    pick_candidates row = {logits, NULL, job->logits->num_vocab};
    if (rule->temperature <= 0) return likeliest(logits, sums);
    if (pick_has_filters(rule)) {
        pick_scratch scratch = scratch_at(job->scratch, row.count, worker);
        row = pick_filter(rule, row, sums->top, sums->total, scratch);
        sum_blocks(sums, rule->kernels, row, rule->scale, false);
    }
    double number = uniform(job->streams->keys[index], job->streams->positions[index]);
    int64_t chosen = choose(rule, row, sums, number * sums->total);
    return row.tokens ? row.tokens[chosen] : chosen;
}

static void pick_row(const pick_job *job, int64_t index, int64_t worker) {
    int64_t num_vocab = job->logits->num_vocab;
    const float *logits = job->logits->values + (job->logits->rows ? job->logits->rows[index] : index) * num_vocab;
    pick_rule rule = job->temperatures ? at_temperature(job->rule, job->temperatures[index]) : job->rule;
    block_sums sums;
    sum_row(&sums, &rule, (pick_candidates){logits, NULL, num_vocab});
    job->tokens[index] = -1;
    job->logprobs[index] = NAN;
    if (!is_finite(&sums)) return;
    double log_total = log(sums.total_at_1), top = (double)sums.top;
    int64_t token = pick_token(job, &rule, index, worker, logits, &sums);
    job->tokens[index] = (int32_t)token;
    job->logprobs[index] = (double)logits[token] - top - log_total;
}

/* A worker takes the next row when it is done with one, so one whose core is busy elsewhere does not hold up all. */
static bool pick_rows(void *context, int64_t worker, int64_t end) {
    pick_job *job = context;
    (void)end;
    for (int64_t row; (row = atomic_fetch_add(&job->next_row, 1)) < job->logits->num_rows;) pick_row(job, row, worker);
    return true;
}

int tokens_pick(enum vector_kind kind, const qrft_logits *logits, const qrft_picking *picking,
                const qrft_streams *streams, int num_threads, void *scratch, int32_t *tokens, double *logprobs) {
    int num_workers = (int)smaller(num_threads < 1 ? 1 : num_threads, logits->num_rows);
    pick_job job = {make_rule(picking, kind), picking->temperatures, logits, streams, scratch, tokens, logprobs, 0};
    parallel_run(pick_rows, &job, num_workers, 1, num_workers);
    for (int64_t i = 0; i < logits->num_rows; i++) {
        if (tokens[i] < 0) return QRFT_NOT_FINITE;
    }
    return QRFT_DONE;
}

int64_t qrft_tokens_scratch(int64_t num_vocab, int num_threads) {
    return PICK_SCRATCH_BYTES * num_vocab * (num_threads < 1 ? 1 : num_threads);
}

int qrft_tokens_pick(const qrft_logits *logits, const qrft_picking *picking, const qrft_streams *streams,
                     int num_threads, void *scratch, int32_t *tokens, double *logprobs) {
    return tokens_pick(cpu_best(), logits, picking, streams, num_threads, scratch, tokens, logprobs);
}

int qrft_tokens_keep(const float *values, int64_t num_vocab, const qrft_picking *picking, void *scratch,
                     uint8_t *kept) {
    pick_rule rule = make_rule(picking, cpu_best());
    pick_candidates row = {values, NULL, num_vocab};
    block_sums sums;
    sum_row(&sums, &rule, row);
    if (!is_finite(&sums)) return QRFT_NOT_FINITE;
    bool is_greedy = rule.temperature <= 0;
    for (int64_t i = 0; i < num_vocab; i++) {
        kept[i] = !is_greedy && !pick_has_filters(&rule) && values[i] > -INFINITY;
    }
    if (is_greedy) kept[likeliest(values, &sums)] = 1;
    if (!pick_has_filters(&rule)) return QRFT_DONE;
    row = pick_filter(&rule, row, sums.top, sums.total, scratch_at(scratch, num_vocab, 0));
    for (int64_t i = 0; i < row.count; i++) kept[row.tokens[i]] = 1;
    return QRFT_DONE;
}
