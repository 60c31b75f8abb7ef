/*
 * libFuzzer: the selection of any ASCII texts is what the rule says, played out plainly with distances by the
 * textbook's table. The input is cut at its NUL bytes into texts; the first byte of each makes its key, so that many
 * keys are equal.
 */
#undef NDEBUG
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "qrft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_TEXTS = 32, MAX_LENGTH = 200, NUM_KEYS = 6 };

typedef struct {
    const uint8_t *bytes;
    int64_t offsets[MAX_TEXTS + 1];
    uint8_t keys[16 * MAX_TEXTS];
    int64_t count;
} made_texts;

static int64_t table_distance(const made_texts *made, int64_t first, int64_t second) {
    static int64_t row[MAX_LENGTH + 1];
    const uint8_t *a = made->bytes + made->offsets[first], *a_end = made->bytes + made->offsets[first + 1];
    const uint8_t *b = made->bytes + made->offsets[second];
    int64_t b_length = made->offsets[second + 1] - made->offsets[second];
    for (int64_t j = 0; j <= b_length; j++) row[j] = j;
    for (int64_t i = 1; a < a_end; a++, i++) {
        int64_t diagonal = row[0];
        row[0] = i;
        for (int64_t j = 1; j <= b_length; j++) {
            int64_t best = diagonal + (*a != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b_length];
}

/* The sum of row's distances to what is kept for other keys than its own. */
static int64_t sum_of_distances(const made_texts *made, const int64_t kept[NUM_KEYS], int64_t row) {
    int64_t sum = 0;
    for (int key = 0; key < NUM_KEYS; key++) {
        if (key != made->keys[16 * row] && kept[key] >= 0) sum += table_distance(made, row, kept[key]);
    }
    return sum;
}

static void play_rule(const made_texts *made, int64_t kept[NUM_KEYS]) {
    for (int key = 0; key < NUM_KEYS; key++) kept[key] = -1;
    for (int64_t row = 0; row < made->count; row++) {
        int64_t *own = &kept[made->keys[16 * row]];
        if (*own < 0 || sum_of_distances(made, kept, row) > sum_of_distances(made, kept, *own)) *own = row;
    }
}

static void check(const made_texts *made) {
    int64_t order[MAX_TEXTS], kept[NUM_KEYS], group_offsets[2] = {0, made->count};
    uint8_t eligible[MAX_TEXTS], verdicts[MAX_TEXTS] = {0};
    for (int64_t i = 0; i < made->count; i++) order[i] = i, eligible[i] = 1;
    qrft_texts texts = {made->bytes, NULL, made->offsets, made->count};
    qrft_groups groups = {order, group_offsets, NULL, 1};
    qrft_selection selection = {QRFT_KEEP_FARTHEST, 0, 0};
    assert(qrft_paths_curate(&texts, &groups, eligible, made->keys, &selection, 1, verdicts, NULL) == QRFT_DONE);
    play_rule(made, kept);
    for (int64_t i = 0; i < made->count; i++) {
        bool is_kept = kept[made->keys[16 * i]] == i;
        assert(verdicts[i] == (is_kept ? QRFT_VERDICT_KEPT : QRFT_VERDICT_DUPLICATE));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    made_texts made = {0};
    uint8_t *bytes = malloc(size ? size : 1);
    assert(bytes);
    made.bytes = bytes;
    int64_t start = 0;
    for (size_t i = 0; i < size && made.count < MAX_TEXTS; i++) {
        bytes[i] = data[i] & 127;
        bool is_full = (int64_t)i + 1 - start == MAX_LENGTH;
        if (bytes[i] != 0 && i + 1 < size && !is_full) continue;
        made.keys[16 * made.count] = bytes[start] % NUM_KEYS;
        made.offsets[++made.count] = start = (int64_t)i + 1;
    }
    check(&made);
    free(bytes);
    return 0;
}
