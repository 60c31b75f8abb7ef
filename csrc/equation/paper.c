/*
 * Sums and products of plain numbers are computed here, as Python does it: integers exactly, / in doubles, a mix in
 * doubles. Every result is Python's to the bit, since IEEE 754 fixes each operation; this file is compiled without
 * contraction (a fused multiply-add would round once instead of twice). Whatever needs more of Python is left
 * undecided, for the caller to send to qrft/grading/reference/paper.py; what Python surely refuses is wrong at once.
 */
#include <string.h>

#include "equation/marks.h"
#include "equation/paper.h"
#include "text/chars.h"
#include "text/decimal.h"

/* Python gives up on about 3,000 operators in a row, and on its own terms; that is for Python to say. */
#define MAX_LENGTH 2048

#define TOLERANCE 1e-3

/* ----------------------------------------------------------------------------------------------- Python values ---- */

/* The value of an expression, or why there is none; a failure is never an undecided case. */
typedef struct {
    enum { VALUE_INT, VALUE_FLOAT, VALUE_FAILS, VALUE_UNDECIDED } kind;
    int64_t i;
    double d;
} value;

static const value FAILS = {VALUE_FAILS, 0, 0};
static const value UNDECIDED = {VALUE_UNDECIDED, 0, 0};

static bool is_number(value v) {
    return v.kind == VALUE_INT || v.kind == VALUE_FLOAT;
}

static value from_int(int64_t i) {
    return (value){VALUE_INT, i, 0};
}

static value from_double(double d) {
    return (value){VALUE_FLOAT, 0, d};
}

/* C and Python both round an integer to the nearest double, ties to even. */
static double as_double(value v) {
    return v.kind == VALUE_INT ? (double)v.i : v.d;
}

static bool is_exact_double(int64_t i) {
    return i >= -DECIMAL_MAX_EXACT && i <= DECIMAL_MAX_EXACT;
}

static value divide(value a, value b) {
    if (as_double(b) == 0) return FAILS;
    if (a.kind == VALUE_INT && b.kind == VALUE_INT && !(is_exact_double(a.i) && is_exact_double(b.i))) {
        return UNDECIDED; /* Python rounds the exact quotient once; two rounded sides would round three times */
    }
    return from_double(as_double(a) / as_double(b));
}

static value compute_ints(uint8_t operation, int64_t a, int64_t b) {
    int64_t result;
    bool overflows = operation == '+'   ? __builtin_add_overflow(a, b, &result)
                     : operation == '-' ? __builtin_sub_overflow(a, b, &result)
                                        : __builtin_mul_overflow(a, b, &result);
    return overflows ? UNDECIDED : from_int(result);
}

static value compute(uint8_t operation, value a, value b) {
    if (!is_number(a)) return a;
    if (!is_number(b)) return b;
    if (operation == '/') return divide(a, b);
    if (a.kind == VALUE_INT && b.kind == VALUE_INT) return compute_ints(operation, a.i, b.i);
    double x = as_double(a), y = as_double(b);
    return from_double(operation == '+' ? x + y : operation == '-' ? x - y : x * y);
}

static value negate(value v) {
    if (v.kind == VALUE_INT) return v.i == INT64_MIN ? UNDECIDED : from_int(-v.i);
    if (v.kind == VALUE_FLOAT) v.d = -v.d;
    return v;
}

/* ------------------------------------------------------------------------------------------ Python expressions ---- */

typedef struct {
    qrft_cursor cursor;
    int depth;
} parser;

static value read_sum(parser *p);

static uint8_t peek(parser *p) {
    while (p->cursor.at < p->cursor.end && (*p->cursor.at == ' ' || *p->cursor.at == '\t')) p->cursor.at++;
    return p->cursor.at < p->cursor.end ? *p->cursor.at : 0; /* a NUL of the text fails, as the end does */
}

/*
 * What stands at the cursor is neither a plain number nor one of + - * / and brackets where they belong. Python may
 * know better only if it begins an operator, a line or a comment that this file does not read.
 */
static value unexpected(parser *p) {
    uint8_t byte = peek(p);
    return byte != 0 && strchr("%^&|~<\\#\n\r\v\f", byte) ? UNDECIDED : FAILS;
}

static value read_number(parser *p) {
    qrft_decimal number;
    const uint8_t *at = decimal_read(p->cursor.at, p->cursor.end, false, &number);
    p->cursor.at = at;
    if (number.num_digits == 0) return FAILS;                                             /* . */
    if (at < p->cursor.end && ((*at | 32) >= 'a' && (*at | 32) <= 'z')) return UNDECIDED; /* 1e5, 0x10, 5j, 3x4 */
    if (has_byte(at, p->cursor.end, '_')) return UNDECIDED;
    if (!number.exact || (number.leading_zero && !number.has_point)) return UNDECIDED;
    return number.has_point ? from_double(decimal_value(&number)) : from_int(number.mantissa);
}

static value read_primary(parser *p) {
    uint8_t byte = peek(p);
    if (is_digit(byte) || byte == '.') return read_number(p);
    if (byte != '(') return unexpected(p);
    if (p->depth == QRFT_MAX_DEPTH) return UNDECIDED;
    p->cursor.at++;
    p->depth++;
    value v = read_sum(p);
    p->depth--;
    if (!is_number(v)) return v;
    if (peek(p) != ')') return unexpected(p);
    p->cursor.at++;
    return v;
}

static value read_factor(parser *p) {
    bool negative = false;
    uint8_t byte;
    while ((byte = peek(p)) == '-' || byte == '+') {
        negative ^= byte == '-';
        p->cursor.at++;
    }
    value v = read_primary(p);
    return negative ? negate(v) : v;
}

static value read_product(parser *p) {
    value v = read_factor(p);
    uint8_t byte;
    while (is_number(v) && ((byte = peek(p)) == '*' || byte == '/')) {
        p->cursor.at++;
        if (has_byte(p->cursor.at, p->cursor.end, byte)) return UNDECIDED; /* ** and // */
        v = compute(byte, v, read_factor(p));
    }
    return v;
}

static value read_sum(parser *p) {
    value v = read_product(p);
    uint8_t byte;
    while (is_number(v) && ((byte = peek(p)) == '+' || byte == '-')) {
        p->cursor.at++;
        v = compute(byte, v, read_product(p));
    }
    return v;
}

static value left_value(const uint8_t *at, const uint8_t *end) {
    if (end - at > MAX_LENGTH) return UNDECIDED;
    parser p = {{at, end}, 0};
    value v = read_sum(&p);
    if (!is_number(v)) return v;
    peek(&p);
    return p.cursor.at == end ? v : unexpected(&p);
}

/* -------------------------------------------------------------------------------------------------- equations ---- */

/* Whether float() might read this byte: digits, signs, 1e5, 1_000, inf, nan, white space, and signs beyond ASCII. */
static bool is_float_byte(uint8_t byte) {
    return byte >= 0x80 || (byte != 0 && strchr("0123456789+-._eEiInNfFtTyYaA \t\n\v\f\r\x1c\x1d\x1e\x1f", byte));
}

/* The right side, as float() reads it. */
static value right_value(const uint8_t *at, const uint8_t *end) {
    const uint8_t *byte = at;
    while (byte < end && is_float_byte(*byte)) byte++;
    if (byte < end) return FAILS;
    at = skip_space(at, end);
    while (at < end && is_space(end[-1])) end--;
    bool negative = has_byte(at, end, '-');
    if (negative || has_byte(at, end, '+')) at++;
    qrft_decimal number;
    if (decimal_read(at, end, false, &number) < end) return UNDECIDED;
    if (number.num_digits == 0) return FAILS;
    if (!number.exact) return UNDECIDED;
    return from_double(negative ? -decimal_value(&number) : decimal_value(&number));
}

static const uint8_t *find_byte(const uint8_t *at, const uint8_t *end, uint8_t byte) {
    const uint8_t *found = at < end ? memchr(at, byte, (size_t)(end - at)) : NULL;
    return found ? found : end;
}

/* The part before the first = against the part up to the second. */
static enum qrft_equation_status check(const uint8_t *at, const uint8_t *end) {
    const uint8_t *equals = find_byte(at, end, '=');
    if (equals == end) return QRFT_EQUATION_WRONG;
    value right = right_value(equals + 1, find_byte(equals + 1, end, '='));
    if (right.kind == VALUE_FAILS) return QRFT_EQUATION_WRONG;
    value left = left_value(at, equals);
    if (left.kind == VALUE_FAILS) return QRFT_EQUATION_WRONG;
    if (right.kind == VALUE_UNDECIDED || left.kind == VALUE_UNDECIDED) return QRFT_EQUATION_UNDECIDED;
    double error = as_double(left) - right.d;
    return error < TOLERANCE && error > -TOLERANCE ? QRFT_EQUATION_OK : QRFT_EQUATION_WRONG;
}

/* A wrong equation decides the text, whatever the undecided ones are. */
static void note(qrft_equations *list, enum qrft_equation_status status) {
    if (status == QRFT_EQUATION_WRONG || list->status == QRFT_EQUATION_OK) list->status = status;
    if (list->count < INT32_MAX) list->count++;
}

/* The texts joined by |, without U+0020. */
static void hash_text(qrft_equations *list, const uint8_t *at, const uint8_t *end) {
    if (list->count > 0) hash_bytes(&list->hash, (const uint8_t *)"|", 1);
    while (at < end) {
        const uint8_t *space = find_byte(at, end, ' ');
        hash_bytes(&list->hash, at, space - at);
        at = space < end ? space + 1 : end;
    }
}

/* The matches of <<([^>]*)>>: from a << to the first > after it, if that is followed by another. */
void paper_equations_check(qrft_equations *list, const uint8_t *text, const uint8_t *end) {
    const uint8_t *opening = mark_find_opening(text, end);
    while (opening < end) {
        const uint8_t *closing = find_byte(opening + 2, end, '>');
        if (end - closing < 2) break;
        if (closing[1] == '>') {
            hash_text(list, opening + 2, closing);
            note(list, check(opening + 2, closing));
        }
        opening = mark_find_opening(closing + 1 + (closing[1] == '>'), end);
    }
}
