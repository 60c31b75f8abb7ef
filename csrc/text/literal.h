/* Unsigned decimal literals, such as 1,234.50, and powers of ten. */
#ifndef QRFT_TEXT_LITERAL_H
#define QRFT_TEXT_LITERAL_H

#include <stdbool.h>
#include <stdint.h>

#include "text/rational.h"

/* 10^38 is the largest power of ten below 2^127. */
#define QRFT_MAX_PLACES 38

/* 10^exponent for 0 <= exponent <= QRFT_MAX_PLACES. */
u128 power_of_ten(int exponent);

/* An unsigned decimal literal, such as 1,234.50. */
typedef struct {
    const uint8_t *end;
    qrft_rational value; /* undefined when too_big */
    int64_t places;      /* digits shown after the point, here 2 */
    uint8_t last_digit;  /* the last digit shown, as a character */
    bool too_big;
} qrft_literal;

/* Whether a literal begins at `at`: a digit, or a point and a digit. */
bool literal_starts(const uint8_t *at, const uint8_t *end);

/* Reads the literal at `at`, where literal_starts holds. */
qrft_literal literal_read(const uint8_t *at, const uint8_t *end);

/* The same, where people's separators part thousands too: a space beyond ASCII, or an apostrophe. */
qrft_literal literal_read_wide(const uint8_t *at, const uint8_t *end);

/*
 * The length of the thousands separator at `at`, which is "," or one of LaTeX's ",\!", "\!,", "\,", "{,}", or one of
 * people's; 0 when there is none. Three digits need not follow.
 */
int wide_separator_length(const uint8_t *at, const uint8_t *end);

#endif
