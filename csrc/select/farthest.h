/* The paper's choice: of the paths with equal keys the one that lies farthest from those kept for the other keys. */
#ifndef QRFT_SELECT_FARTHEST_H
#define QRFT_SELECT_FARTHEST_H

#include <stdbool.h>
#include <stdint.h>

#include "qrft.h"
#include "select/alphabet.h"
#include "select/levenshtein.h"
#include "text/buffer.h"

/* An eligible row of a group; its entry is the number of its key, counted in order of first appearance. */
typedef struct {
    int64_t row;
    int64_t entry;
    qrft_path path; /* set by farthest_choose, as is lane */
    int lane;
} qrft_member;

/* A key of the group with the member chosen for it, which is the first one to begin with. */
typedef struct {
    const uint8_t *key;
    const qrft_member *kept;
    uint64_t rank;     /* of the one kept, for choices that look at one row alone */
    int64_t first_row; /* of its members */
} qrft_entry;

typedef struct {
    const qrft_texts *texts;
    qrft_member *members; /* in the order in which they count */
    qrft_entry *entries;
    int64_t num_members, num_entries;
    int64_t max_cells; /* as in qrft_selection */
} qrft_group;

/* The working memory of the choice by distance. */
typedef struct {
    qrft_buffer symbols, masks, state, distances;
    size_t num_zero; /* bytes at the start of the masks that are zero between groups */
    qrft_alphabet alphabet;
    qrft_distancer distancer;
} qrft_farthest;

/* Chooses entries[k].kept by the paper's rule. False when there is no memory. */
bool farthest_choose(qrft_farthest *farthest, qrft_group *group);
void farthest_free(qrft_farthest *farthest);

#endif
