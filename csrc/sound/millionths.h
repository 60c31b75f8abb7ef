/*
 * Numbers as paths are followed by them: in millionths, so that 0.25 is 250,000, without a sign. What has more decimals
 * is cut; NO_NUMBER stands for what is too large.
 */
#ifndef QRFT_SOUND_MILLIONTHS_H
#define QRFT_SOUND_MILLIONTHS_H

#include <stdbool.h>
#include <stdint.h>

#include "text/chars.h"
#include "text/rational.h"

#define UNIT         INT64_C(1000000)
#define NUMBER_LIMIT (INT64_C(1) << 62)
#define NO_NUMBER    INT64_C(-1)

/* Reads the literal at the cursor, where literal_starts holds, and moves behind it. */
int64_t millionths_read(qrft_cursor *cursor);

/* What a fraction is worth, without its sign. */
int64_t millionths_of(qrft_rational value);

/* Whether two numbers are equal, or one is the hundredfold of the other, which has decimals: 0.25 and 25. */
static inline bool is_same(int64_t a, int64_t b) {
    if (a == b) return true;
    if (a % UNIT == 0 && b % UNIT == 0) return false;
    return a < b ? a <= NUMBER_LIMIT / 100 && a * 100 == b : b <= NUMBER_LIMIT / 100 && b * 100 == a;
}

/* Whether a number is a result, as it is or rounded to a whole number next to it. */
static inline bool serves(int64_t value, int64_t result) {
    if (value == result) return true;
    int64_t decimals = result % UNIT;
    if (decimals == 0) return value % UNIT != 0 && is_same(value, result);
    if (is_same(value, result)) return true;
    return value % UNIT == 0 && value - result < UNIT && result - value < UNIT;
}

#endif
