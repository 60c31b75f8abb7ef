/* The Levenshtein distances from one text to eight paths at once, a path in each lane of a vector. */
#ifndef QRFT_SELECT_LANES_H
#define QRFT_SELECT_LANES_H

#include <stdbool.h>
#include <stdint.h>

#include "select/alphabet.h"
#include "text/cpu.h"

/*
 * Up to eight paths, to all of which the distances of a text are computed at once: eight lanes of 64 bits are one
 * vector of AVX-512, two of AVX2, four of SSE2 and NEON.
 */
#define QRFT_LANES 8

typedef struct {
    uint64_t *masks; /* [word][symbol][lane]; word 0 holds the last 64 symbols of each path, its bit 63 the last one */
    uint64_t *state; /* [word][2][lane] */
    uint32_t num_symbols;
    int num_used;                /* lanes 0 .. num_used - 1 hold a path */
    qrft_path paths[QRFT_LANES]; /* length 0 where unused */
    int64_t num_words;           /* of the longest path, at least 1 */
    int64_t shortest, longest;   /* lengths of the paths in use */
} qrft_lanes;

/* The words of paths up to that length. */
static inline int64_t lanes_num_words(int64_t max_length) {
    return max_length > 64 ? (max_length + 63) / 64 : 1;
}

/* Starts without paths. The masks must be all zero; they and the state are aligned to 64 bytes. */
void lanes_begin(qrft_lanes *lanes, uint64_t *masks, uint64_t *state, uint32_t num_symbols);

/* Puts the path, whose symbols must stay where they are, into the first unused lane. */
void lanes_add(qrft_lanes *lanes, qrft_path path);

/* Takes all paths out; the masks are all zero again. */
void lanes_clear(qrft_lanes *lanes);

/*
 * Distances from the text to the path of each lane in use. Only what can lie on a way of at most `bound` edits is
 * looked at: a distance up to `bound` is exact, a larger one may be too large, never too small.
 */
void lanes_distances(const qrft_lanes *lanes, enum vector_kind kind, qrft_path text, int64_t bound,
                     int64_t distances[QRFT_LANES]);

#endif
