/*
 * Judges one equation: recursive descent over the grammar of docs/semantics.md, computing as it reads.
 *
 *     equation  sum { "=" sum }+              factor   prefix* primary [ (^|**) factor ]
 *     sum       product { (+|-) product }     primary  ( literal | "(" sum ")" ) [ "%" | currency ]
 *     product   factor { (times|by) factor }  prefix   + | - | currency (once)
 *
 * A fault of syntax ends the reading. Trouble in arithmetic is noted and the reading goes on, without computing,
 * because a fault of syntax further on decides first.
 */
#include <stdbool.h>
#include <stddef.h>

#include "equation/check.h"
#include "text/chars.h"
#include "text/literal.h"

typedef struct {
    qrft_cursor cursor;
    int depth;
    enum qrft_equation_status syntax;  /* QRFT_EQUATION_OK, _MALFORMED or _TOO_DEEP: the first fault */
    enum qrft_equation_status trouble; /* the first in arithmetic, else QRFT_EQUATION_OK */
    bool has_operation;                /* this part has an operator or a bracket, so it is not one number */
    qrft_literal literal;              /* the last one read */
    bool is_percent;                   /* and whether a % followed it */
} parser;

typedef bool (*operation)(qrft_rational a, qrft_rational b, qrft_rational *result);

static qrft_rational read_sum(parser *p);
static qrft_rational read_factor(parser *p);

static void skip(parser *p) {
    p->cursor.at = skip_space(p->cursor.at, p->cursor.end);
}

static void fault(parser *p, enum qrft_equation_status status) {
    if (p->syntax == QRFT_EQUATION_OK) p->syntax = status;
}

static void trouble(parser *p, enum qrft_equation_status status) {
    if (p->trouble == QRFT_EQUATION_OK) p->trouble = status;
}

/* Once something has gone wrong the values no longer matter, and nothing is computed with them. */
static bool is_sound(const parser *p) {
    return p->syntax == QRFT_EQUATION_OK && p->trouble == QRFT_EQUATION_OK;
}

static qrft_rational compute(parser *p, operation operate, qrft_rational a, qrft_rational b) {
    if (!is_sound(p)) return a;
    if (operate == rational_divide && b.n == 0) {
        trouble(p, QRFT_EQUATION_DIVISION_BY_ZERO);
        return a;
    }
    qrft_rational result = a;
    if (!operate(a, b, &result)) trouble(p, QRFT_EQUATION_OVERFLOW);
    return result;
}

static qrft_rational compute_power(parser *p, qrft_rational base, qrft_rational exponent) {
    if (!is_sound(p)) return base;
    qrft_rational result = base;
    if (exponent.d != 1) {
        trouble(p, QRFT_EQUATION_FRACTIONAL_POWER);
    } else if (base.n == 0 && exponent.n < 0) {
        trouble(p, QRFT_EQUATION_DIVISION_BY_ZERO);
    } else if (!rational_power(base, exponent.n, &result)) {
        trouble(p, QRFT_EQUATION_OVERFLOW);
    }
    return result;
}

/* ---------------------------------------------------------------------------------------------------- grammar ---- */

static qrft_rational read_literal(parser *p) {
    p->literal = literal_read(p->cursor.at, p->cursor.end);
    p->cursor.at = p->literal.end;
    if (p->literal.places == 0) take_byte(&p->cursor, '.'); /* "5." is 5 */
    if (p->literal.too_big) trouble(p, QRFT_EQUATION_OVERFLOW);
    return p->literal.too_big ? (qrft_rational){0, 1} : p->literal.value;
}

/* What is inside a bracket or an exponent, one level deeper. */
static qrft_rational read_inside(parser *p, qrft_rational (*read)(parser *)) {
    p->has_operation = true;
    if (p->depth == QRFT_MAX_DEPTH) {
        fault(p, QRFT_EQUATION_TOO_DEEP);
        return (qrft_rational){0, 1};
    }
    p->depth++;
    qrft_rational value = read(p);
    p->depth--;
    return value;
}

static qrft_rational read_brackets(parser *p) {
    qrft_rational value = read_inside(p, read_sum);
    if (!take_byte(&p->cursor, ')')) fault(p, QRFT_EQUATION_MALFORMED);
    return value;
}

static qrft_rational read_operand(parser *p) {
    if (take_byte(&p->cursor, '(')) return read_brackets(p);
    if (literal_starts(p->cursor.at, p->cursor.end)) return read_literal(p);
    fault(p, QRFT_EQUATION_MALFORMED);
    return (qrft_rational){0, 1};
}

/* Signs and at most one currency, in any order; returns whether the signs together negate. */
static bool read_prefixes(parser *p) {
    bool negative = false, currency_seen = false;
    for (;;) {
        skip(p);
        if (has_digit(p->cursor.at, p->cursor.end)) return negative; /* nearly always */
        if (take(&p->cursor, minus_length(p->cursor.at, p->cursor.end))) {
            negative = !negative;
        } else if (take_byte(&p->cursor, '+')) {
            continue;
        } else if (!currency_seen && take(&p->cursor, currency_length(p->cursor.at, p->cursor.end))) {
            currency_seen = true;
        } else {
            return negative;
        }
    }
}

static qrft_rational read_primary(parser *p) {
    qrft_rational value = read_operand(p);
    skip(p);
    p->is_percent = take_byte(&p->cursor, '%');
    if (p->is_percent) {
        value = compute(p, rational_divide, value, (qrft_rational){100, 1});
    } else {
        take(&p->cursor, currency_length(p->cursor.at, p->cursor.end));
    }
    skip(p);
    return value;
}

static bool take_power_operator(parser *p) {
    if (has_byte(p->cursor.at, p->cursor.end, '*'))
        return take(&p->cursor, has_byte(p->cursor.at + 1, p->cursor.end, '*') * 2);
    return take_byte(&p->cursor, '^');
}

/* A power binds more tightly than the sign before it, and from the right: -2^3^2 is -(2^(3^2)). */
static qrft_rational read_factor(parser *p) {
    bool negative = read_prefixes(p);
    qrft_rational value = read_primary(p);
    if (p->syntax == QRFT_EQUATION_OK && take_power_operator(p)) {
        value = compute_power(p, value, read_inside(p, read_factor));
    }
    if (negative) value.n = -value.n;
    return value;
}

static operation take_product_operator(parser *p) {
    if (take(&p->cursor, times_length(p->cursor.at, p->cursor.end))) return rational_multiply;
    if (take(&p->cursor, divide_length(p->cursor.at, p->cursor.end))) return rational_divide;
    return NULL;
}

static operation take_sum_operator(parser *p) {
    if (take_byte(&p->cursor, '+')) return rational_add;
    if (take(&p->cursor, minus_length(p->cursor.at, p->cursor.end))) return rational_subtract;
    return NULL;
}

static qrft_rational read_product(parser *p) {
    qrft_rational value = read_factor(p);
    operation operate;
    while (p->syntax == QRFT_EQUATION_OK && (operate = take_product_operator(p))) {
        p->has_operation = true;
        value = compute(p, operate, value, read_factor(p));
    }
    return value;
}

static qrft_rational read_sum(parser *p) {
    qrft_rational value = read_product(p);
    operation operate;
    while (p->syntax == QRFT_EQUATION_OK && (operate = take_sum_operator(p))) {
        p->has_operation = true;
        value = compute(p, operate, value, read_product(p));
    }
    return value;
}

static qrft_rational read_part(parser *p) {
    p->has_operation = false;
    return read_sum(p);
}

/* -------------------------------------------------------------------------------------------------- comparing ---- */

/* Exactly half a unit of the last place away: right if rounded away from zero, or to an even last digit. */
static bool tie_is_right(const parser *p, qrft_rational exact, qrft_rational error) {
    bool away_from_zero = (error.n < 0) == (exact.n >= 0); /* error = exact - shown */
    return away_from_zero || (p->literal.last_digit - '0') % 2 == 0;
}

/* Whether the number just read is `exact`, rounded to the decimals that it shows. */
static bool is_rounded(parser *p, qrft_rational exact, qrft_rational shown) {
    int64_t places = p->literal.places + (p->is_percent ? 2 : 0);
    if (p->has_operation || p->literal.places == 0 || places > QRFT_MAX_PLACES) return false;
    qrft_rational error;
    if (!rational_subtract(exact, shown, &error)) {
        trouble(p, QRFT_EQUATION_OVERFLOW);
        return false;
    }
    u128 scaled; /* |error| <= 1 / (2 * 10^places), without the fraction */
    if (__builtin_mul_overflow(magnitude(error.n), 2 * power_of_ten((int)places), &scaled)) return false;
    if (scaled == (u128)error.d) return tie_is_right(p, exact, error);
    return scaled < (u128)error.d;
}

static bool part_agrees(parser *p, qrft_rational first, qrft_rational part) {
    return !is_sound(p) || rational_equal(first, part) || is_rounded(p, first, part);
}

enum qrft_equation_status equation_check(const uint8_t *text, const uint8_t *end) {
    if (skip_space(text, end) == end) return QRFT_EQUATION_EMPTY;
    parser p = {.cursor = {text, end}};
    qrft_rational first = read_part(&p);
    bool right = true, is_compared = false;
    while (p.syntax == QRFT_EQUATION_OK && take_byte(&p.cursor, '=')) {
        is_compared = true;
        qrft_rational part = read_part(&p);
        right = part_agrees(&p, first, part) && right;
    }
    if (!is_compared || p.cursor.at < p.cursor.end) fault(&p, QRFT_EQUATION_MALFORMED);
    if (p.syntax != QRFT_EQUATION_OK) return p.syntax;
    if (p.trouble != QRFT_EQUATION_OK) return p.trouble;
    return right ? QRFT_EQUATION_OK : QRFT_EQUATION_WRONG;
}
