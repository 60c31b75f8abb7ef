#include <string.h>

#include "answer/chars.h"
#include "answer/latex.h"
#include "answer/number.h"
#include "answer/signs.h"
#include "text/literal.h"

/* n / d with signs; too_big when either literal is. */
typedef struct {
    const uint8_t *end;
    qrft_rational n; /* a whole number */
    qrft_rational d;
    bool too_big;
} fraction;

/* ------------------------------------------------------------------------------------------------- fractions ---- */

static bool read_whole(const uint8_t *at, const uint8_t *end, qrft_literal *literal) {
    if (!has_digit(at, end)) return false;
    *literal = literal_read_wide(at, end);
    return literal->places == 0;
}

/* The {-3} or 3 of a \frac: where it ends, or NULL. Without braces it is one digit, as in TeX. */
static const uint8_t *read_argument(const uint8_t *at, const uint8_t *end, bool may_be_signed, qrft_literal *literal) {
    at = skip_blanks(at, end);
    if (has_digit(at, end)) {
        *literal = literal_read(at, at + 1);
        return at + 1;
    }
    if (!has_byte(at, end, '{')) return NULL;
    at = skip_blanks(at + 1, end);
    int sign = sign_length(at, end);
    bool is_negative = sign && *at != '+';
    if ((sign && !may_be_signed) || !read_whole(skip_blanks(at + sign, end), end, literal)) return NULL;
    if (is_negative) literal->value.n = -literal->value.n;
    at = skip_blanks(literal->end, end);
    return has_byte(at, end, '}') ? at + 1 : NULL;
}

static fraction make_fraction(const uint8_t *end, const qrft_literal *n, const qrft_literal *d) {
    return (fraction){end, n->value, d->value, n->too_big || d->too_big};
}

static bool read_frac(const uint8_t *at, const uint8_t *end, fraction *result) {
    if (!has_byte(at, end, '\\')) return false;
    at++;
    if (has_byte(at, end, 'd') || has_byte(at, end, 't')) at++;
    if (end - at < 4 || memcmp(at, "frac", 4) != 0) return false;
    qrft_literal n = {0}, d = {0};
    at = read_argument(at + 4, end, true, &n);
    if (at) at = read_argument(at, end, false, &d);
    if (at) *result = make_fraction(at, &n, &d);
    return at != NULL;
}

/* A sign such as ½. */
static bool read_sign(const uint8_t *at, const uint8_t *end, fraction *result) {
    int n, d;
    qrft_sign sign = sign_at(at, end);
    if (!sign.code || !sign_is_fraction(sign.code, &n, &d)) return false;
    *result = (fraction){at + sign.length, {n, 1}, {d, 1}, false};
    return true;
}

/* A slash, the fraction slash U+2044 or the division slash U+2215. */
static int slash_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '/')) return 1;
    return wide_sign_length(at, end, 0xE2, 0x81, 0x84) | wide_sign_length(at, end, 0xE2, 0x88, 0x95);
}

/* "/ 4" after the 3 of 3/4. */
static bool read_denominator(const qrft_literal *n, const uint8_t *end, fraction *result) {
    qrft_literal d;
    const uint8_t *at = skip_blanks(n->end, end);
    int slash = slash_length(at, end);
    if (slash == 0 || !read_whole(skip_blanks(at + slash, end), end, &d)) return false;
    *result = make_fraction(d.end, n, &d);
    return true;
}

static bool is_proper(const fraction *f) {
    return f->too_big || (f->n.n >= 0 && f->n.n < f->d.n);
}

/* The 1/2 of "1 1/2", 1\frac{1}{2} or 1½; only a proper fraction belongs to the number before it. */
static bool read_proper(const uint8_t *at, const uint8_t *end, fraction *result) {
    const uint8_t *start = skip_blanks(at, end);
    if (read_frac(start, end, result) || read_sign(start, end, result)) return is_proper(result);
    qrft_literal n;
    if (start == at || !read_whole(start, end, &n) || !read_denominator(&n, end, result)) return false;
    return is_proper(result);
}

static qrft_number quotient(const qrft_literal *whole, const fraction *f) {
    qrft_number number = {f->end, QRFT_ANSWER_OK, {0, 1}};
    if ((whole && whole->too_big) || f->too_big) {
        number.status = QRFT_ANSWER_TOO_BIG;
    } else if (f->d.n == 0) {
        number.status = QRFT_ANSWER_NOT_A_NUMBER;
    } else {
        number.value = rational_make(magnitude(f->n.n), (u128)f->d.n);
        if (f->n.n < 0) number.value.n = -number.value.n;
        if (whole && !rational_add(whole->value, number.value, &number.value)) number.status = QRFT_ANSWER_TOO_BIG;
    }
    return number;
}

/* -------------------------------------------------------------------------------------------- powers of ten ---- */

/* A power of this is 1, or needs more than 127 bits, unless its base is 0 or -1. */
#define MAX_EXPONENT 1000

/* A sign and digits at `at`: where they end, or NULL. What is more than QRFT_MAX_PLACES reads as one more. */
static const uint8_t *read_exponent(const uint8_t *at, const uint8_t *end, int *exponent) {
    int sign = sign_length(at, end);
    bool is_negative = sign && *at != '+';
    at += sign;
    if (!has_digit(at, end)) return NULL;
    int value = 0;
    for (; has_digit(at, end); at++) {
        value = value * 10 + (*at - '0');
        if (value > QRFT_MAX_PLACES) value = QRFT_MAX_PLACES + 1;
    }
    *exponent = is_negative ? -value : value;
    return at;
}

/* The e5 of 1e5. */
static const uint8_t *read_e(const uint8_t *at, const uint8_t *end, int *exponent) {
    return has_byte(at, end, 'e') || has_byte(at, end, 'E') ? read_exponent(at + 1, end, exponent) : NULL;
}

/* The ³ of 10³: where it ends, or NULL. What is more than MAX_EXPONENT reads as that. */
static const uint8_t *read_superscripts(const uint8_t *at, const uint8_t *end, int *exponent) {
    int minus = wide_sign_length(at, end, 0xE2, 0x81, 0xBB); /* U+207B */
    const uint8_t *start = at += minus;
    int value = 0, digit;
    for (qrft_sign sign; (sign = sign_at(at, end)).code && (digit = sign_superscript(sign.code)) >= 0;) {
        value = value * 10 + digit;
        if (value > MAX_EXPONENT) value = MAX_EXPONENT;
        at += sign.length;
    }
    *exponent = minus ? -value : value;
    return at == start ? NULL : at;
}

/* A sign of times before a power of ten: also \times, \cdot and dots in the middle, U+00B7 and U+22C5. */
static int scale_length(const uint8_t *at, const uint8_t *end) {
    int length = times_length(at, end);
    if (length == 0) length = command_length(at, end, "times cdot");
    if (length == 0) length = wide_sign_length(at, end, 0xC2, 0xB7, 0);
    return length ? length : wide_sign_length(at, end, 0xE2, 0x8B, 0x85);
}

/* The "x 10^5" or "x 10⁵" of "1 x 10^5", with any sign of times, the exponent perhaps in braces. */
static const uint8_t *read_power(const uint8_t *at, const uint8_t *end, int *exponent) {
    at = skip_blanks(at, end);
    int times = scale_length(at, end);
    if (times == 0) return NULL;
    at = skip_blanks(at + times, end);
    if (end - at < 3 || memcmp(at, "10", 2) != 0) return NULL;
    at += 2;
    if (*at != '^') return read_superscripts(at, end, exponent);
    at++;
    bool has_brace = has_byte(at, end, '{');
    at = read_exponent(at + has_brace, end, exponent);
    if (!at || !has_brace) return at;
    return has_byte(at, end, '}') ? at + 1 : NULL;
}

static qrft_number scaled(const uint8_t *end, const qrft_literal *literal, int exponent) {
    qrft_number number = {end, QRFT_ANSWER_TOO_BIG, {0, 1}};
    int places = exponent < 0 ? -exponent : exponent;
    if (literal->too_big || places > QRFT_MAX_PLACES) return number;
    qrft_rational power = {(i128)power_of_ten(places), 1};
    bool fits = exponent < 0 ? rational_divide(literal->value, power, &number.value)
                             : rational_multiply(literal->value, power, &number.value);
    if (fits) number.status = QRFT_ANSWER_OK;
    return number;
}

static qrft_number raised(const uint8_t *end, const qrft_literal *literal, int exponent) {
    qrft_number number = {end, QRFT_ANSWER_TOO_BIG, {0, 1}};
    if (literal->too_big) return number;
    if (literal->value.n == 0 && exponent < 0)
        number.status = QRFT_ANSWER_NOT_A_NUMBER;
    else if (rational_power(literal->value, exponent, &number.value))
        number.status = QRFT_ANSWER_OK;
    return number;
}

/* -------------------------------------------------------------------------------------------------- the whole ---- */

bool number_starts(const uint8_t *at, const uint8_t *end) {
    fraction f;
    if (at >= end) return false;
    return *at < 0x80 ? literal_starts(at, end) || read_frac(at, end, &f) : read_sign(at, end, &f);
}

qrft_number number_read(const uint8_t *at, const uint8_t *end) {
    fraction f;
    int exponent;
    if (read_frac(at, end, &f) || read_sign(at, end, &f)) return quotient(NULL, &f);
    qrft_literal literal = literal_read_wide(at, end);
    qrft_number number = {literal.end, literal.too_big ? QRFT_ANSWER_TOO_BIG : QRFT_ANSWER_OK, literal.value};
    if (literal.end == end || *literal.end == '\n') return number; /* nearly always */
    const uint8_t *stop = read_e(literal.end, end, &exponent);
    if (!stop) stop = read_power(literal.end, end, &exponent);
    if (stop) return scaled(stop, &literal, exponent);
    stop = read_superscripts(literal.end, end, &exponent);
    if (stop) return raised(stop, &literal, exponent);
    if (literal.places == 0 && read_denominator(&literal, end, &f)) return quotient(NULL, &f);
    if (literal.places == 0 && read_proper(literal.end, end, &f)) return quotient(&literal, &f);
    return number;
}
