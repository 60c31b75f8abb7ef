/* Words that say numbers, and the numbers that go with words: seven, hundred, third, week. */
#ifndef QRFT_SOUND_WORDS_H
#define QRFT_SOUND_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "text/chars.h"

enum word_kind {
    WORD_OTHER,  /* only what goes with it */
    WORD_NUMBER, /* seven: the number is its own */
    WORD_SCALE,  /* hundred: it multiplies what stands before it */
    WORD_PARTS,  /* third: a whole has three of it */
    WORD_HALF,
    WORD_PERCENT,
    WORD_JOINT /* and, a: two and a half */
};

#define MAX_FACTS 4

/* All numbers are in millionths. */
typedef struct {
    const char *names; /* a blank between them */
    enum word_kind kind;
    int64_t number;
    int64_t facts[MAX_FACTS]; /* 0: there are no more */
} qrft_word;

#define NUM_WORD_SLOTS 512 /* three times as many as there are names */

/* The words by their hash. */
typedef struct {
    uint32_t lengths[32]; /* by the low bits of a first letter, a bit for each length of a name */
    struct {
        const qrft_word *word;
        const char *name;
        int length;
    } slots[NUM_WORD_SLOTS];
} qrft_words;

void words_index(qrft_words *words);

/* The word of these letters, in any case, as a plural too; NULL when it says no number. */
const qrft_word *words_find(const qrft_words *words, qrft_cursor letters);

#endif
