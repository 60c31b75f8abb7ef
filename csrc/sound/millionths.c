#include "sound/millionths.h"
#include "text/literal.h"

#define MAX_DIGITS 12 /* of a whole number */
#define PLACES     6

/* The first six decimals from `at`, where the point stands or does not. */
static int64_t read_decimals(const uint8_t *at, const uint8_t *end) {
    int64_t decimals = 0;
    if (has_byte(at, end, '.')) at++;
    for (int place = 0; place < PLACES; place++) decimals = decimals * 10 + (has_digit(at, end) ? *at++ - '0' : 0);
    return decimals;
}

/* The value of a literal that has separators, or many digits. */
static int64_t read_long(const uint8_t *at, const uint8_t *end) {
    int64_t whole = 0;
    for (; at < end && *at != '.'; at++) {
        if (is_digit(*at)) whole = whole * 10 + *at - '0';
        if (whole >= 1000000 * UNIT) return NO_NUMBER;
    }
    return whole * UNIT + read_decimals(at, end);
}

/* Whether a separator of thousands may stand at `at`. */
static bool may_go_on(const uint8_t *at, const uint8_t *end) {
    if (at >= end) return false;
    if (*at == ',') return has_digit(at + 1, end) || has_byte(at + 1, end, '\\');
    return *at == '\\' || *at == '{';
}

int64_t millionths_read(qrft_cursor *cursor) {
    const uint8_t *start = cursor->at, *end = cursor->end, *at = start;
    int64_t whole = 0;
    while (has_digit(at, end) && at - start < MAX_DIGITS) whole = whole * 10 + *at++ - '0';
    if (has_digit(at, end) || may_go_on(at, end)) {
        cursor->at = literal_read(start, end).end;
        return read_long(start, cursor->at);
    }
    cursor->at = at;
    if (!has_byte(at, end, '.') || !has_digit(at + 1, end)) return whole * UNIT; /* nearly always */
    for (at++; has_digit(at, end);) at++;
    int64_t decimals = read_decimals(cursor->at, at);
    cursor->at = at;
    return whole * UNIT + decimals;
}

int64_t millionths_of(qrft_rational value) {
    u128 n = magnitude(value.n), d = (u128)value.d, whole = n / d, rest;
    if (whole >= (u128)(1000000 * UNIT) || __builtin_mul_overflow(n % d, (u128)UNIT, &rest)) return NO_NUMBER;
    return (int64_t)whole * UNIT + (int64_t)(rest / d);
}
