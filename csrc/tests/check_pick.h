/* What must hold for any row of logits under any settings. For test_pick.c and the fuzzer; NDEBUG is off in both. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pick/pick.h"
#include "text/cpu.h"

static bool is_row_finite(const float *values, int64_t num_vocab) {
    bool has_chance = false;
    for (int64_t i = 0; i < num_vocab; i++) {
        if (isnan(values[i]) || values[i] == INFINITY) return false;
        has_chance |= values[i] > -INFINITY;
    }
    return has_chance;
}

/*
 * Every kind of vectors picks the same token with the same log-probability to the last bit; it is one of the kept, and
 * not masked. The memory is of exactly the size that the header asks for, so that ASan sees what lies outside.
 */
static void check_pick(const float *values, int64_t num_vocab, const qrft_picking *picking, uint64_t key) {
    qrft_logits logits = {values, NULL, 1, num_vocab};
    int64_t position = 3;
    qrft_streams streams = {&key, &position};
    void *scratch = malloc((size_t)qrft_tokens_scratch(num_vocab, 1));
    uint8_t *kept = malloc((size_t)num_vocab);
    int32_t token = 0;
    double logprob = 0;
    assert(scratch && kept);
    int expected = is_row_finite(values, num_vocab) ? QRFT_DONE : QRFT_NOT_FINITE;
    assert(qrft_tokens_pick(&logits, picking, &streams, 1, scratch, &token, &logprob) == expected);
    assert(qrft_tokens_keep(values, num_vocab, picking, scratch, kept) == expected);
    if (expected == QRFT_DONE) {
        assert(token >= 0 && token < num_vocab && kept[token] && values[token] > -INFINITY);
        assert(logprob <= 1e-6 && logprob >= (double)values[token] - (double)INFINITY);
    } else {
        assert(token == -1 && isnan(logprob));
    }
    for (int kind = 0; kind < NUM_VECTOR_KINDS; kind++) {
        if (!cpu_has((enum vector_kind)kind)) continue;
        int32_t other = 0;
        double other_logprob = 0;
        tokens_pick((enum vector_kind)kind, &logits, picking, &streams, 1, scratch, &other, &other_logprob);
        assert(other == token);
        assert(isnan(logprob) ? isnan(other_logprob) : memcmp(&other_logprob, &logprob, sizeof logprob) == 0);
    }
    free(scratch);
    free(kept);
}
