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

#include "select/lanes.h"

/* ------------------------------------------------------------------------------------------------------ paths ---- */

void lanes_begin(qrft_lanes *lanes, uint64_t *masks, uint64_t *state, uint32_t num_symbols) {
    *lanes = (qrft_lanes){.masks = masks, .state = state, .num_symbols = num_symbols, .num_words = 1};
}

/* The mask of the symbol that is `place` symbols before the lane's last one. */
static uint64_t *mask_at(const qrft_lanes *lanes, int lane, int64_t place) {
    uint32_t symbol = lanes->paths[lane].symbols[lanes->paths[lane].length - 1 - place];
    return &lanes->masks[(place / 64 * lanes->num_symbols + symbol) * QRFT_LANES + lane];
}

void lanes_add(qrft_lanes *lanes, qrft_path path) {
    int lane = lanes->num_used++;
    lanes->paths[lane] = path;
    for (int64_t place = 0; place < path.length; place++) {
        *mask_at(lanes, lane, place) |= (uint64_t)1 << (63 - place % 64);
    }
    if (lane == 0 || path.length < lanes->shortest) lanes->shortest = path.length;
    if (lane == 0 || path.length > lanes->longest) lanes->longest = path.length;
    lanes->num_words = lanes_num_words(lanes->longest);
}

void lanes_clear(qrft_lanes *lanes) {
    for (int lane = 0; lane < lanes->num_used; lane++) {
        for (int64_t place = 0; place < lanes->paths[lane].length; place++) *mask_at(lanes, lane, place) = 0;
    }
    lanes_begin(lanes, lanes->masks, lanes->state, lanes->num_symbols);
}

/* -------------------------------------------------------------------------------------------------- distances ---- */

/* The strip: in column j the words high(j) down to low(j); both fall as j grows. */
typedef struct {
    int64_t num_columns;
    int64_t top;    /* rows of the longest path from its end to the strip's upper edge in column 0 */
    int64_t bottom; /* of the shortest path, to the lower edge */
} strip_edges;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/*
 * A way of `bound` edits leaves the diagonal by (bound - difference of the lengths) / 2 at most. Paths that differ from
 * the text by more in length are farther than `bound` anyhow, so the strip is made for the others. If all are too
 * short, only the text's beginning is compared; if all are too long, the bound is raised to the shortest. Should none
 * fit all the same, every number comes out too large, as is allowed.
 */
static strip_edges strip_of(const qrft_lanes *lanes, int64_t length, int64_t bound) {
    int64_t num_columns = smaller(length, lanes->longest + bound);
    bound = larger(bound, lanes->shortest - num_columns);
    int64_t longest = -1, shortest = -1;
    for (int lane = 0; lane < lanes->num_used; lane++) {
        int64_t rows = lanes->paths[lane].length;
        if (rows < num_columns - bound || rows > num_columns + bound) continue;
        longest = larger(longest, rows);
        shortest = shortest < 0 ? rows : smaller(shortest, rows);
    }
    return (strip_edges){num_columns, (longest + num_columns + bound) / 2, (shortest + num_columns - bound) / 2};
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

/* The function that computes the strip, once for each kind of vector. */
#define BELOW(x, above)     ((x) << 1 | (above) >> 63)
#define XOR_OR(a, b, c)     (((a) ^ (b)) | (c))
#define OR_NOT_AND(a, b, c) (((a) | (b)) & ~(c))
#define AND_NOT_OR(a, b, c) (((a) & ~(b)) | (c))
#define RUN_STRIP           static void run_portable
#define VECTOR_BYTES        16
#include "select/lanes.inc"

#ifdef __x86_64__
#include <immintrin.h>

#undef RUN_STRIP
#undef VECTOR_BYTES
#define VECTOR_BYTES 32
#define RUN_STRIP    __attribute__((target("avx2"))) static void run_avx2
#include "select/lanes.inc"

/*
 * AVX-512 does any logic on three operands at once, which compilers seldom find; VBMI2 shifts across two words. The
 * logic is given as a table of eight bits: bit 4a + 2b + c is the result for the bits a, b and c. These are the tables
 * of a, b and c themselves; what is done to the operands is done to the tables.
 */
enum { TABLE_OF_A = 0xF0, TABLE_OF_B = 0xCC, TABLE_OF_C = 0xAA, WHOLE_TABLE = 0xFF };
#undef BELOW
#undef XOR_OR
#undef OR_NOT_AND
#undef AND_NOT_OR
#undef RUN_STRIP
#undef VECTOR_BYTES
#define VECTOR_BYTES          64
#define BELOW(x, above)       ((vector)_mm512_shldi_epi64((__m512i)(x), (__m512i)(above), 1))
#define LOGIC(a, b, c, table) ((vector)_mm512_ternarylogic_epi64((__m512i)(a), (__m512i)(b), (__m512i)(c), table))
#define XOR_OR(a, b, c)       LOGIC(a, b, c, (TABLE_OF_A ^ TABLE_OF_B) | TABLE_OF_C)
#define OR_NOT_AND(a, b, c)   LOGIC(a, b, c, (TABLE_OF_A | TABLE_OF_B) & ~TABLE_OF_C & WHOLE_TABLE)
#define AND_NOT_OR(a, b, c)   LOGIC(a, b, c, (TABLE_OF_A & ~TABLE_OF_B & WHOLE_TABLE) | TABLE_OF_C)
#define RUN_STRIP             __attribute__((target("avx512f,avx512vbmi2"))) static void run_avx512
#include "select/lanes.inc"

#else
#define run_avx2   run_portable
#define run_avx512 run_portable
#endif

void lanes_distances(const qrft_lanes *lanes, enum vector_kind kind, qrft_path text, int64_t bound,
                     int64_t distances[QRFT_LANES]) {
    typedef void runner(const qrft_lanes *, qrft_path, strip_edges, int, int64_t[QRFT_LANES]);
    static runner *const RUNNERS[NUM_VECTOR_KINDS] = {run_portable, run_avx2, run_avx512};
    static const int IN_VECTOR[NUM_VECTOR_KINDS] = {2, 4, 8};
    strip_edges strip = strip_of(lanes, text.length, bound);
    begin_state(lanes);
    for (int lane = 0; lane < lanes->num_used; lane += IN_VECTOR[kind])
        RUNNERS[kind](lanes, text, strip, lane, distances);
    for (int lane = 0; lane < lanes->num_used; lane++) distances[lane] += lanes->paths[lane].length;
}
