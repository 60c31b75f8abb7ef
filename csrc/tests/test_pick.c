/* Picking tokens without Python: made rows of all kinds, by every kind of vectors, under the sanitizers. */
#include <float.h>
#include <stdio.h>

#include "check_pick.h"

#define MAX_VOCAB 3000

static uint64_t random_state = 1;

static uint64_t next_random(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return random_state >> 33;
}

static double next_uniform(void) {
    return (double)next_random() / 2147483648.0;
}

/* Roughly normal logits; ties; masked tokens; neighbouring floats; any bits at all. */
static float next_logit(int shape) {
    float normal = (float)(4 * (next_uniform() + next_uniform() + next_uniform() - 1.5));
    uint32_t bits = (uint32_t)(next_random() << 16 ^ next_random());
    if (shape == 1) return roundf(normal);
    if (shape == 2) return next_random() % 2 ? normal : -INFINITY;
    if (shape == 3) return 10 + (float)(next_random() % 4) * 0x1p-20f;
    if (shape == 4 && next_random() % 64 == 0) memcpy(&normal, &bits, sizeof normal);
    if (shape == 5) return -FLT_MAX;
    return shape == 6 ? normal * 1e37f : normal;
}

static void check_made_row(void) {
    static const int64_t SIZES[] = {1, 2, 15, 16, 17, 127, 128, 129, 255, 256, 300, 1024, MAX_VOCAB};
    static const double TEMPERATURES[] = {0, 0.7, 1, 1.3, 1e-300, 1e300, -1, NAN, INFINITY};
    static const double TOP_PS[] = {1, 1, 0.95, 0.5, 1e-9, 0.9999999, 0, -1, 2, NAN};
    static const double MIN_PS[] = {0, 0, 0.05, 1, 1e-30, -1, 2, NAN};
    static const int64_t TOP_KS[] = {0, 0, 1, 7, 100, -3, INT64_MAX};
#define ONE_OF(array) (array[next_random() % (sizeof array / sizeof *array)])
    int64_t num_vocab = ONE_OF(SIZES);
    int shape = (int)(next_random() % 7);
    float *values = malloc((size_t)num_vocab * sizeof *values);
    assert(values);
    for (int64_t i = 0; i < num_vocab; i++) values[i] = next_logit(shape);
    qrft_picking picking = {ONE_OF(TEMPERATURES), ONE_OF(TOP_KS), ONE_OF(TOP_PS), ONE_OF(MIN_PS), NULL};
    check_pick(values, num_vocab, &picking, next_random());
    free(values);
}

/*
 * Threads share the rows, and each has scratch of its own; rows are found by their indices, and each at its own
 * temperature gives the token of a call for it alone.
 */
static void test_threads(void) {
    enum { ROWS = 37, VOCAB = 500 };
    static float values[ROWS * VOCAB];
    int32_t rows[ROWS], tokens[2][ROWS];
    uint64_t keys[ROWS];
    int64_t positions[ROWS];
    double logprobs[2][ROWS];
    double temperatures[ROWS];
    qrft_picking picking = {NAN, 50, 0.9, 0.01, temperatures};
    for (int i = 0; i < ROWS * VOCAB; i++) values[i] = next_logit(0);
    for (int i = 0; i < ROWS; i++) {
        rows[i] = ROWS - 1 - i, keys[i] = next_random(), positions[i] = i;
        temperatures[i] = 0.4 * (i % 5); /* greedy too */
    }
    for (int num_threads = 1; num_threads <= 64; num_threads *= 4) {
        int which = num_threads > 1;
        qrft_logits logits = {values, rows, ROWS, VOCAB};
        qrft_streams streams = {keys, positions};
        void *scratch = malloc((size_t)qrft_tokens_scratch(VOCAB, num_threads));
        assert(scratch);
        assert(qrft_tokens_pick(&logits, &picking, &streams, num_threads, scratch, tokens[which], logprobs[which]) ==
               QRFT_DONE);
        if (which) assert(memcmp(tokens[0], tokens[1], sizeof tokens[0]) == 0);
        if (which) assert(memcmp(logprobs[0], logprobs[1], sizeof logprobs[0]) == 0);
        for (int i = 0; i < ROWS; i++) {
            qrft_logits one = {values, rows + i, 1, VOCAB};
            qrft_streams stream = {keys + i, positions + i};
            qrft_picking alone = {temperatures[i], 50, 0.9, 0.01, NULL};
            int32_t token;
            double logprob;
            assert(qrft_tokens_pick(&one, &alone, &stream, 1, scratch, &token, &logprob) == QRFT_DONE);
            assert(token == tokens[which][i] && memcmp(&logprob, &logprobs[which][i], sizeof logprob) == 0);
        }
        free(scratch);
    }
    qrft_logits none = {values, NULL, 0, VOCAB};
    assert(qrft_tokens_pick(&none, &picking, NULL, 1, NULL, NULL, NULL) == QRFT_DONE);
}

int main(void) {
    for (int round = 0; round < 20000; round++) check_made_row();
    test_threads();
    puts("pick: all passed");
    return 0;
}
