/* The numbers that a question says, and those that go without saying. */
#ifndef QRFT_SOUND_KNOWN_H
#define QRFT_SOUND_KNOWN_H

#include <stdbool.h>

#include "qrft.h"
#include "sound/millionths.h"
#include "sound/words.h"

#define NUM_COUNTED 256 /* whole numbers below are kept bit by bit */

static inline bool is_counted(const uint64_t counted[4], int64_t value) {
    int64_t whole = value / UNIT;
    return whole < NUM_COUNTED && whole * UNIT == value && (counted[whole >> 6] >> (whole & 63) & 1);
}

/* Whether a number is among those of the question and the counted, or is_same as one of them. */
bool known_has(const qrft_known *known, const uint64_t counted[4], int64_t value);

/* Reads a question. */
void known_read(qrft_known *known, qrft_cursor question, const qrft_words *words);

#endif
