/*
 * Levenshtein distance, bit-parallel: Myers 1999, in the form of Hyyrö 2003 ("A bit-vector algorithm for computing
 * Levenshtein and Damerau edit distances"), 64 rows of the matrix in a word.
 *
 * Longer patterns are done one band of 64 rows after the other over the whole text. What a band passes to the next
 * is the difference between neighbouring columns along its last row, -1, 0 or +1 a column: that is `steps`. So the
 * masks need one word per symbol, however long the pattern is.
 */
#include <string.h>

#include "qrft.h"
#include "select/levenshtein.h"

bool distancer_begin(qrft_distancer *distancer, uint32_t num_symbols, int64_t max_length) {
    if (!buffer_reserve(&distancer->steps, (size_t)max_length, sizeof(int8_t))) return false;
    if (num_symbols <= distancer->num_masks) return true;
    void *masks = buffer_reserve(&distancer->masks, num_symbols, sizeof(uint64_t));
    if (!masks) return false;
    memset(masks, 0, num_symbols * sizeof(uint64_t));
    distancer->num_masks = num_symbols;
    return true;
}

void distancer_free(qrft_distancer *distancer) {
    buffer_free(&distancer->masks);
    buffer_free(&distancer->steps);
    distancer->num_masks = 0;
}

/* Common ends change nothing, and two ways of writing one solution share most of their text. */
static void trim(qrft_path *a, qrft_path *b) {
    while (a->length > 0 && b->length > 0 && a->symbols[0] == b->symbols[0]) {
        a->symbols++, a->length--;
        b->symbols++, b->length--;
    }
    while (a->length > 0 && b->length > 0 && a->symbols[a->length - 1] == b->symbols[b->length - 1]) {
        a->length--;
        b->length--;
    }
}

/*
 * One band. plus and minus hold a bit per row: the vertical difference to the row above is +1 or -1. Returns by how
 * much the matrix grows along the band's last row, and leaves that row's steps for the next band.
 */
static int64_t run_band(const uint64_t *masks, int8_t *steps, qrft_path text, int num_rows) {
    uint64_t plus = ~(uint64_t)0, minus = 0;
    int last_row = num_rows - 1;
    int64_t growth = 0;
    for (int64_t j = 0; j < text.length; j++) {
        uint64_t falls = steps[j] < 0, rises = steps[j] > 0;
        uint64_t equal = masks[text.symbols[j]];
        uint64_t vertical = equal | minus;
        equal |= falls;
        uint64_t horizontal = (((equal & plus) + plus) ^ plus) | equal;
        uint64_t up = minus | ~(horizontal | plus);
        uint64_t down = plus & horizontal;
        steps[j] = (int8_t)((int)(up >> last_row & 1) - (int)(down >> last_row & 1));
        growth += steps[j];
        up = up << 1 | rises;
        down = down << 1 | falls;
        plus = down | ~(vertical | up);
        minus = up & vertical;
    }
    return growth;
}

static int64_t run_bands(uint64_t *masks, int8_t *steps, qrft_path pattern, qrft_path text) {
    int64_t growth = text.length;
    memset(steps, 1, (size_t)text.length); /* row 0 of the matrix: 0, 1, 2 ... */
    for (int64_t row = 0; row < pattern.length; row += 64) {
        int num_rows = (int)(pattern.length - row < 64 ? pattern.length - row : 64);
        const uint32_t *symbols = pattern.symbols + row;
        for (int i = 0; i < num_rows; i++) masks[symbols[i]] |= (uint64_t)1 << i;
        growth = run_band(masks, steps, text, num_rows);
        for (int i = 0; i < num_rows; i++) masks[symbols[i]] = 0;
    }
    return pattern.length + growth; /* down the first column, then along the last row */
}

int64_t distancer_distance(qrft_distancer *distancer, qrft_path a, qrft_path b) {
    trim(&a, &b);
    if (a.length == 0) return b.length;
    if (b.length == 0) return a.length;
    bool a_shorter = a.length <= b.length; /* fewer bands */
    return run_bands(distancer->masks.memory, distancer->steps.memory, a_shorter ? a : b, a_shorter ? b : a);
}

static int64_t distance_of(qrft_alphabet *alphabet, qrft_distancer *distancer, uint32_t *symbols, qrft_cursor a,
                           qrft_cursor b) {
    if (!symbols || !alphabet_begin(alphabet, count_wide_bytes(a) + count_wide_bytes(b))) return -1;
    qrft_path first = {symbols, alphabet_encode(alphabet, a, symbols)};
    symbols += first.length;
    qrft_path second = {symbols, alphabet_encode(alphabet, b, symbols)};
    int64_t max_length = first.length > second.length ? first.length : second.length;
    if (!distancer_begin(distancer, alphabet->num_symbols, max_length)) return -1;
    return distancer_distance(distancer, first, second);
}

int64_t qrft_texts_distance(const uint8_t *a, int64_t a_length, const uint8_t *b, int64_t b_length) {
    qrft_alphabet alphabet = {0};
    qrft_distancer distancer = {0};
    qrft_buffer buffer = {0};
    uint32_t *symbols = buffer_reserve(&buffer, (size_t)a_length + (size_t)b_length, sizeof *symbols);
    qrft_cursor first = {a, a + a_length}, second = {b, b + b_length};
    int64_t distance = distance_of(&alphabet, &distancer, symbols, first, second);
    buffer_free(&buffer);
    alphabet_free(&alphabet);
    distancer_free(&distancer);
    return distance;
}
