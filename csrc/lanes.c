/*
 * The distances from one text to eight paths at once: the algorithm of levenshtein.c, a path in each 64-bit lane.
 *
 * All lanes read the same symbol of the text, so the masks of a step are one load. For that the masks hold the paths,
 * which stay while many texts are compared with them.
 *
 *     path 0  . . . . . . . . a b|c d e f g h     Paths end together, at bit 63 of word 0. The rows before a path's
 *     path 1  . . x y z x y z x y|z x y z x y     first symbol (.) match nothing and begin with differences of 0;
 *     path 2  . . . . . . . . . .|. . . k l m     they keep them, so the row above the first symbol is 0, 1, 2 ...
 *                         word 1 | word 0
 *
 * Of the matrix only a strip around the diagonal is computed, as wide as `bound` asks for (Ukkonen 1985). What is
 * left out counts as +1: below the strip by column, as it was before the first column, above it by row. That is the
 * price of a way that exists, so a number is never too small.
 */
#include <string.h>

#include "core.h"

typedef uint64_t vector __attribute__((vector_size(8 * QRFT_LANES)));

/* ------------------------------------------------------------------------------------------------------ paths ---- */

void lanes_begin(qrft_lanes *lanes, uint64_t *masks, uint64_t *state, uint32_t num_symbols) {
    *lanes = (qrft_lanes){.masks = masks, .state = state, .num_symbols = num_symbols, .num_words = 1};
}

static uint64_t *mask_at(const qrft_lanes *lanes, int lane, int64_t place) {
    const qrft_path *path = &lanes->paths[lane];
    int64_t word = (path->length - 1 - place) / 64;
    return &lanes->masks[(word * lanes->num_symbols + path->symbols[place]) * QRFT_LANES + lane];
}

static void note_lengths(qrft_lanes *lanes) {
    lanes->shortest = lanes->longest = lanes->paths[0].length;
    for (int lane = 1; lane < lanes->num_used; lane++) {
        int64_t length = lanes->paths[lane].length;
        if (length < lanes->shortest) lanes->shortest = length;
        if (length > lanes->longest) lanes->longest = length;
    }
    lanes->num_words = lanes_num_words(lanes->longest);
}

void lanes_set(qrft_lanes *lanes, int lane, qrft_path path) {
    for (int64_t i = 0; i < lanes->paths[lane].length; i++) *mask_at(lanes, lane, i) = 0;
    lanes->paths[lane] = path;
    for (int64_t i = 0; i < path.length; i++) {
        *mask_at(lanes, lane, i) |= (uint64_t)1 << (63 - (path.length - 1 - i) % 64);
    }
    if (lane == lanes->num_used) lanes->num_used++;
    note_lengths(lanes);
}

/* -------------------------------------------------------------------------------------------------- distances ---- */

/* The strip: in column j the words high(j) down to low(j); both fall as j grows. */
typedef struct {
    int64_t bound;
    int64_t top;    /* rows of the longest path from its end to the strip's upper edge in column 0 */
    int64_t bottom; /* of the shortest path, to the lower edge */
} strip_edges;

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* A way of `bound` edits leaves the diagonal by (bound - difference of the lengths) / 2 at most. */
static strip_edges strip_of(const qrft_lanes *lanes, int64_t length, int64_t bound) {
    bound = larger(bound, larger(length - lanes->shortest, lanes->longest - length));
    return (strip_edges){bound, (lanes->longest + length + bound) / 2, (lanes->shortest + length - bound) / 2};
}

/* The bits of a path's rows in a word: its vertical differences before the first column. */
static uint64_t rows_of(int64_t length, int64_t word) {
    int64_t rows = length - 64 * word;
    if (rows <= 0) return 0;
    return rows >= 64 ? ~(uint64_t)0 : ~(uint64_t)0 << (64 - rows);
}

static void begin_state(const qrft_lanes *lanes) {
    uint64_t *at = lanes->state;
    for (int64_t word = 0; word < lanes->num_words; word++, at += 2 * QRFT_LANES) {
        for (int lane = 0; lane < QRFT_LANES; lane++) at[lane] = rows_of(lanes->paths[lane].length, word);
        memset(at + QRFT_LANES, 0, QRFT_LANES * sizeof *at);
    }
}

/*
 * The names are those of levenshtein.c. Inlined into one function for each kind of vector, since a vector that is
 * passed between functions ties them to one kind.
 */
__attribute__((always_inline)) static inline void run_strip(const qrft_lanes *lanes, qrft_path text, strip_edges strip,
                                                            int64_t growth[QRFT_LANES]) {
    const vector *masks = (const vector *)(const void *)lanes->masks;
    vector *state = (vector *)(void *)lanes->state;
    vector sum = {0};
    int64_t last_word = lanes->num_words - 1;
    for (int64_t j = 1; j <= text.length; j++) {
        int64_t high = (strip.top - j) / 64, low = strip.bottom > j ? (strip.bottom - j) / 64 : 0;
        if (high > last_word) high = last_word;
        const vector *symbol_masks = masks + text.symbols[j - 1];
        vector rises = (vector){0} + 1, falls = {0};
        for (int64_t word = high; word >= low; word--) {
            vector plus = state[2 * word], minus = state[2 * word + 1];
            vector equal = symbol_masks[word * lanes->num_symbols];
            vector vertical = equal | minus;
            equal |= falls;
            vector horizontal = (((equal & plus) + plus) ^ plus) | equal;
            vector up = minus | ~(horizontal | plus);
            vector down = plus & horizontal;
            vector up_below = up << 1 | rises, down_below = down << 1 | falls;
            rises = up >> 63;
            falls = down >> 63;
            state[2 * word] = down_below | ~(vertical | up_below);
            state[2 * word + 1] = up_below & vertical;
        }
        sum += rises - falls; /* the rows below the strip still differ as at first, so the last row moves alike */
    }
    memcpy(growth, &sum, sizeof sum);
}

static void run_portable(const qrft_lanes *lanes, qrft_path text, strip_edges strip, int64_t growth[QRFT_LANES]) {
    run_strip(lanes, text, strip, growth);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void run_avx2(const qrft_lanes *lanes, qrft_path text, strip_edges strip,
                                                     int64_t growth[QRFT_LANES]) {
    run_strip(lanes, text, strip, growth);
}

__attribute__((target("avx512f"))) static void run_avx512(const qrft_lanes *lanes, qrft_path text, strip_edges strip,
                                                          int64_t growth[QRFT_LANES]) {
    run_strip(lanes, text, strip, growth);
}

bool lanes_has(enum lanes_kind kind) {
    if (kind == LANES_AVX512) return __builtin_cpu_supports("avx512f") != 0;
    return kind != LANES_AVX2 || __builtin_cpu_supports("avx2") != 0;
}
#else
#define run_avx2   run_portable
#define run_avx512 run_portable

bool lanes_has(enum lanes_kind kind) {
    return kind == LANES_PORTABLE;
}
#endif

enum lanes_kind lanes_best(void) {
    if (lanes_has(LANES_AVX512)) return LANES_AVX512;
    return lanes_has(LANES_AVX2) ? LANES_AVX2 : LANES_PORTABLE;
}

int64_t lanes_distances(const qrft_lanes *lanes, enum lanes_kind kind, qrft_path text, int64_t bound,
                        int64_t distances[QRFT_LANES]) {
    typedef void runner(const qrft_lanes *, qrft_path, strip_edges, int64_t[QRFT_LANES]);
    static runner *const RUNNERS[NUM_LANES_KINDS] = {run_portable, run_avx2, run_avx512};
    strip_edges strip = strip_of(lanes, text.length, bound);
    begin_state(lanes);
    RUNNERS[kind](lanes, text, strip, distances);
    for (int lane = 0; lane < lanes->num_used; lane++) distances[lane] += lanes->paths[lane].length;
    return strip.bound;
}
