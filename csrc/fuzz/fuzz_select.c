/*
 * libFuzzer: selection on any texts. The input is cut at its NUL bytes into texts; the first byte of each makes its
 * key, so that many are equal. One row a key is kept, and the same with one thread and with two. Distances are those
 * of the textbook's table.
 */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_TEXTS = 24, MAX_TABLE = 160 };

/* Of ASCII texts of at most MAX_TABLE bytes. */
static int64_t table_distance(const uint8_t *a, int64_t a_length, const uint8_t *b, int64_t b_length) {
    static int64_t row[MAX_TABLE + 1];
    for (int64_t j = 0; j <= b_length; j++) row[j] = j;
    for (int64_t i = 1; i <= a_length; i++) {
        int64_t diagonal = row[0];
        row[0] = i;
        for (int64_t j = 1; j <= b_length; j++) {
            int64_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b_length];
}

static void check_distance(const uint8_t *a, int64_t a_length, const uint8_t *b, int64_t b_length) {
    int64_t distance = qrft_texts_distance(a, a_length, b, b_length);
    assert(distance == qrft_texts_distance(b, b_length, a, a_length));
    bool is_ascii = true;
    for (int64_t i = 0; i < a_length; i++) is_ascii = is_ascii && a[i] < 128;
    for (int64_t i = 0; i < b_length; i++) is_ascii = is_ascii && b[i] < 128;
    if (!is_ascii || a_length > MAX_TABLE || b_length > MAX_TABLE) return;
    assert(distance == table_distance(a, a_length, b, b_length));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int64_t offsets[MAX_TEXTS + 1] = {0}, order[MAX_TEXTS], num_texts = 0;
    uint8_t keys[16 * MAX_TEXTS] = {0}, eligible[MAX_TEXTS], one[MAX_TEXTS] = {0}, two[MAX_TEXTS] = {0};
    uint8_t *text = malloc(size ? size : 1);
    assert(text);
    memcpy(text, data, size);
    for (size_t i = 0; i < size && num_texts < MAX_TEXTS; i++) {
        if (text[i] != 0 && i + 1 < size) continue;
        order[num_texts] = num_texts;
        eligible[num_texts] = 1;
        keys[16 * num_texts] = text[offsets[num_texts]] & 3;
        offsets[++num_texts] = (int64_t)i + 1;
    }
    qrft_texts texts = {text, NULL, offsets, num_texts};
    int64_t group_offsets[2] = {0, num_texts};
    qrft_groups groups = {order, group_offsets, NULL, 1};
    assert(qrft_paths_curate(&texts, &groups, eligible, keys, QRFT_KEEP_FARTHEST, 1, one) == QRFT_DONE);
    assert(qrft_paths_curate(&texts, &groups, eligible, keys, QRFT_KEEP_FARTHEST, 2, two) == QRFT_DONE);
    assert(memcmp(one, two, sizeof one) == 0);
    int num_kept[4] = {0}, num_rows[4] = {0};
    for (int64_t i = 0; i < num_texts; i++) {
        num_rows[keys[16 * i]]++;
        num_kept[keys[16 * i]] += one[i] == QRFT_VERDICT_KEPT;
    }
    for (int key = 0; key < 4; key++) assert(num_kept[key] == (num_rows[key] > 0));
    if (num_texts > 1) {
        check_distance(text, offsets[1], text + offsets[1], offsets[2] - offsets[1]);
    }
    free(text);
    return 0;
}
