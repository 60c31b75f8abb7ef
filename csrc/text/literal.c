/* Decimal literals. */
#include <stddef.h>

#include "text/chars.h"
#include "text/literal.h"

/* --------------------------------------------------------------------------------------------------- literals ---- */

/* The digits read so far, as mantissa / 10^places without the zeros that a decimal part ends with. */
typedef struct {
    u128 mantissa;
    int64_t places;
    int64_t zeros; /* zeros after the point that count only if another digit follows */
    bool too_big;
} accumulator;

#define LIMIT ((u128)1 << 127)

/* Ten times as much and a digit still fit in 64 bits. */
#define SMALL_MANTISSA ((u128)1 << 60)

u128 power_of_ten(int exponent) {
    u128 power = 1;
    for (int i = 0; i < exponent; i++) power *= 10;
    return power;
}

/* mantissa = mantissa * 10^shift + digit, or too_big. */
static void append(accumulator *number, int64_t shift, uint8_t digit) {
    if (shift == 1 && number->mantissa < SMALL_MANTISSA && !number->too_big) { /* nearly always, and much cheaper */
        number->mantissa = (uint64_t)number->mantissa * 10 + digit - '0';
        return;
    }
    if (number->mantissa != 0 && shift > QRFT_MAX_PLACES) number->too_big = true;
    for (int64_t i = 0; i < shift && !number->too_big; i++) {
        if (number->mantissa > LIMIT / 10) number->too_big = true;
        if (number->mantissa == 0) break;
        number->mantissa *= 10;
    }
    number->mantissa = number->mantissa + digit - '0';
    if (number->mantissa >= LIMIT) number->too_big = true;
    if (number->too_big) number->mantissa = 0;
}

static const uint8_t *read_digits(const uint8_t *at, const uint8_t *end, accumulator *number) {
    for (; has_digit(at, end); at++) append(number, 1, *at);
    return at;
}

static int separator_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, ',')) return has_byte(at + 1, end, '\\') && has_byte(at + 2, end, '!') ? 3 : 1;
    if (!has_byte(at, end, '\\') && !has_byte(at, end, '{')) return 0;
    if (has_byte(at + 1, end, ',')) {
        if (*at == '\\') return 2;
        return has_byte(at + 2, end, '}') ? 3 : 0;
    }
    return *at == '\\' && has_byte(at + 1, end, '!') && has_byte(at + 2, end, ',') ? 3 : 0;
}

int wide_separator_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '\'')) return 1;
    if (wide_sign_length(at, end, 0xE2, 0x80, 0x99)) return 3; /* U+2019 */
    int space = wide_space_length(at, end);
    return space ? space : separator_length(at, end);
}

/* Nearly no number has a separator, and one byte says so. */
static bool may_be_separator(const uint8_t *at, const uint8_t *end, bool is_wide) {
    if (at >= end) return false;
    return *at == ',' || *at == '\\' || *at == '{' || (is_wide && (*at == '\'' || *at >= 0x80));
}

/* The three digits after the separator at `at`, or NULL when there are not exactly three. */
static const uint8_t *group_after_separator(const uint8_t *at, const uint8_t *end, bool is_wide) {
    int length = is_wide ? wide_separator_length(at, end) : separator_length(at, end);
    if (length == 0 || end - at < length + 3) return NULL;
    at += length;
    return is_digit(at[0]) && is_digit(at[1]) && is_digit(at[2]) && !has_digit(at + 3, end) ? at : NULL;
}

/* Separators are read only where they belong: after one to three digits that do not begin with 0. */
static const uint8_t *read_integer(const uint8_t *at, const uint8_t *end, bool is_wide, accumulator *number) {
    const uint8_t *stop = read_digits(at, end, number);
    if (!may_be_separator(stop, end, is_wide) || stop == at || stop - at > 3 || *at == '0') return stop;
    for (const uint8_t *group; (group = group_after_separator(stop, end, is_wide));) {
        stop = read_digits(group, end, number);
    }
    return stop;
}

static const uint8_t *read_decimals(const uint8_t *at, const uint8_t *end, accumulator *number) {
    for (; has_digit(at, end); at++) {
        number->zeros++;
        if (*at == '0') continue;
        number->places += number->zeros;
        append(number, number->zeros, *at);
        number->zeros = 0;
    }
    return at;
}

bool literal_starts(const uint8_t *at, const uint8_t *end) {
    return has_digit(at, end) || (has_byte(at, end, '.') && has_digit(at + 1, end));
}

static inline qrft_literal read_literal(const uint8_t *at, const uint8_t *end, bool is_wide) {
    accumulator number = {0, 0, 0, false};
    qrft_literal literal = {0};
    literal.end = read_integer(at, end, is_wide, &number);
    if (has_byte(literal.end, end, '.') && has_digit(literal.end + 1, end)) {
        const uint8_t *decimals = literal.end + 1;
        literal.end = read_decimals(decimals, end, &number);
        literal.places = literal.end - decimals;
    }
    literal.last_digit = literal.end[-1];
    literal.too_big = number.too_big || number.places > QRFT_MAX_PLACES;
    if (!literal.too_big) literal.value = rational_make(number.mantissa, power_of_ten((int)number.places));
    return literal;
}

qrft_literal literal_read(const uint8_t *at, const uint8_t *end) {
    return read_literal(at, end, false);
}

qrft_literal literal_read_wide(const uint8_t *at, const uint8_t *end) {
    return read_literal(at, end, true);
}
