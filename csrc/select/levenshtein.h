/* The Levenshtein distance of two paths. */
#ifndef QRFT_SELECT_LEVENSHTEIN_H
#define QRFT_SELECT_LEVENSHTEIN_H

#include <stdbool.h>
#include <stdint.h>

#include "select/alphabet.h"
#include "text/buffer.h"

/* The working memory of distances. */
typedef struct {
    qrft_buffer masks; /* a 64-bit mask per symbol, all zero between calls */
    size_t num_masks;
    qrft_buffer steps;
} qrft_distancer;

/* Makes room for symbols below num_symbols, in paths of at most max_length. False when there is no memory. */
bool distancer_begin(qrft_distancer *distancer, uint32_t num_symbols, int64_t max_length);
void distancer_free(qrft_distancer *distancer);

/* The Levenshtein distance in O(length a * length b / 64). */
int64_t distancer_distance(qrft_distancer *distancer, qrft_path a, qrft_path b);

#endif
