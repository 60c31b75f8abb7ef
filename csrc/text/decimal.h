/* Decimals as Python's parser and float() read them, for mode "paper": the double nearest to the digits. */
#ifndef QRFT_TEXT_DECIMAL_H
#define QRFT_TEXT_DECIMAL_H

#include <float.h>
#include <stdbool.h>
#include <stdint.h>

/* 1 computes floats as doubles, and there are no floats here. */
_Static_assert(FLT_EVAL_METHOD == 0 || FLT_EVAL_METHOD == 1, "doubles must be computed as doubles, not wider");

#ifdef __FAST_MATH__
#error "Mode \"paper\" must round as IEEE 754 does: compile it without -ffast-math."
#endif

/* Integers up to this are exact doubles. */
#define DECIMAL_MAX_EXACT ((int64_t)1 << 53)

/* An unsigned number of digits with at most one point, as both Python's parser and float() read it. */
typedef struct {
    int64_t mantissa;
    int num_digits;
    int places;
    bool has_point;
    bool leading_zero; /* 05: fine for float(), refused by the parser unless it is 0 */
    bool exact;        /* the value is mantissa / 10^places, and both are exact doubles */
} qrft_decimal;

/*
 * Reads digits, at most one point and, where allowed, commas, which count for nothing. Returns where it stopped; the
 * number has no value when it has no digits.
 */
const uint8_t *decimal_read(const uint8_t *at, const uint8_t *end, bool commas, qrft_decimal *number);

/* The double nearest to the number, which must be exact. */
double decimal_value(const qrft_decimal *number);

#endif
