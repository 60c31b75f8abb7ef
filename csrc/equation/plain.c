/*
 * A short way for the equations that nearly all texts hold: small decimals joined by + - * /, one =, one decimal,
 * such as 12*3.5+8=50. It judges only what is sure; all else is left to check.c, which would say the same of these
 * (the tests compare both with the reference).
 */
#include <stdbool.h>
#include <stddef.h>

#include "equation/plain.h"
#include "text/chars.h"
#include "text/rational.h"

/*
 * With at most 9 digits a number, a mantissa and a power of ten lie below 2^30. Numerators and denominators are kept
 * in 64 bits and checked; the products of the last comparison, 64 by 30 bits, fit in 128.
 */
#define MAX_DIGITS 9

static const int64_t POWERS[MAX_DIGITS + 1] = {1,      10,      100,      1000,      10000,
                                               100000, 1000000, 10000000, 100000000, 1000000000};

/* n / d, not reduced; d > 0. */
typedef struct {
    int64_t n;
    int64_t d;
} fraction;

/* Reads a decimal of at most MAX_DIGITS digits; NULL when there is none. */
static inline const uint8_t *read_decimal(const uint8_t *at, const uint8_t *end, fraction *number) {
    const uint8_t *start = at;
    uint64_t mantissa = 0;
    while (has_digit(at, end)) mantissa = mantissa * 10 + (uint64_t)(*at++ - '0');
    int64_t num_digits = at - start, places = 0;
    if (has_byte(at, end, '.')) {
        start = ++at;
        while (has_digit(at, end)) mantissa = mantissa * 10 + (uint64_t)(*at++ - '0');
        places = at - start;
        if (places == 0) return NULL;
    }
    num_digits += places;
    if (num_digits == 0 || num_digits > MAX_DIGITS) return NULL; /* a mantissa that wrapped goes unused */
    *number = (fraction){(int64_t)mantissa, POWERS[places]};
    return at;
}

static bool multiply(fraction *a, fraction b) {
    return !__builtin_mul_overflow(a->n, b.n, &a->n) && !__builtin_mul_overflow(a->d, b.d, &a->d);
}

static bool divide(fraction *a, fraction b) {
    return b.n > 0 && multiply(a, (fraction){b.d, b.n});
}

static bool add(fraction *a, fraction b) {
    int64_t left = a->n, right = b.n;
    if (a->d != b.d) {
        if (__builtin_mul_overflow(a->n, b.d, &left) || __builtin_mul_overflow(b.n, a->d, &right)) return false;
        if (__builtin_mul_overflow(a->d, b.d, &a->d)) return false;
    }
    return !__builtin_add_overflow(left, right, &a->n);
}

/* Reads product { (+|-) product } up to the = sign; NULL when anything else comes, or a number grows too large. */
static const uint8_t *read_sum(const uint8_t *at, const uint8_t *end, fraction *sum) {
    fraction product, factor;
    *sum = (fraction){0, 1};
    if (!(at = read_decimal(at, end, &product))) return NULL;
    while (at < end) {
        uint8_t sign = *at++;
        if (sign == '=') return add(sum, product) ? at : NULL;
        if (!(at = read_decimal(at, end, &factor))) return NULL;
        bool is_done;
        if (sign == '*') {
            is_done = multiply(&product, factor);
        } else if (sign == '/') {
            is_done = divide(&product, factor);
        } else {
            is_done = (sign == '+' || sign == '-') && add(sum, product);
            product = factor;
            if (sign == '-') product.n = -product.n;
        }
        if (!is_done) return NULL;
    }
    return NULL;
}

const uint8_t *equation_skip_plain(const uint8_t *at, const uint8_t *end, enum qrft_equation_status *status) {
    fraction left, right;
    if (!(at = read_sum(at, end, &left)) || !(at = read_decimal(at, end, &right))) return NULL;
    if (end - at < 2 || at[0] != '>' || at[1] != '>') return NULL;
    bool is_equal = (i128)left.n * right.d == (i128)right.n * left.d;
    if (!is_equal && right.d > 1) return NULL; /* perhaps rounded */
    *status = is_equal ? QRFT_EQUATION_OK : QRFT_EQUATION_WRONG;
    return at;
}
