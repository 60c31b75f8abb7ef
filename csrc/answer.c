/* Finds the answer of a solution: the number after the first #### that is followed by one. */
#include <string.h>

#include "core.h"

/* Within a line only: an answer does not reach over a line break. */
static const uint8_t *skip_blanks(const uint8_t *at, const uint8_t *end) {
    for (;;) {
        if (has_byte(at, end, ' ') || has_byte(at, end, '\t')) {
            at++;
        } else if (has_byte(at, end, 0xC2) && has_byte(at + 1, end, 0xA0)) { /* U+00A0, the no-break space */
            at += 2;
        } else {
            return at;
        }
    }
}

static int sign_length(const uint8_t *at, const uint8_t *end) {
    return has_byte(at, end, '+') ? 1 : minus_length(at, end);
}

/* Blanks, at most one sign and at most one currency, in any order. */
static const uint8_t *skip_prefixes(const uint8_t *at, const uint8_t *end, bool *negative) {
    bool sign_seen = false, currency_seen = false;
    for (;;) {
        at = skip_blanks(at, end);
        int sign = sign_seen ? 0 : sign_length(at, end);
        int currency = currency_seen ? 0 : currency_length(at, end);
        if (sign + currency == 0) return at;
        if (sign) *negative = *at != '+';
        sign_seen = sign_seen || sign;
        currency_seen = currency_seen || currency;
        at += sign + currency;
    }
}

/* ---------------------------------------------------------------------------------------------------- reading ---- */

static bool read_whole(const uint8_t *at, const uint8_t *end, qrft_literal *literal) {
    if (!has_digit(at, end)) return false;
    *literal = literal_read(at, end);
    return literal->places == 0;
}

/* "/ 4" after the 3 of 3/4. */
static bool read_denominator(const uint8_t *at, const uint8_t *end, qrft_literal *literal) {
    at = skip_blanks(at, end);
    return has_byte(at, end, '/') && read_whole(skip_blanks(at + 1, end), end, literal);
}

static void set_value(qrft_answer *answer, const qrft_literal *whole, const qrft_literal *n, const qrft_literal *d) {
    if ((whole && whole->too_big) || n->too_big || d->too_big) {
        answer->status = QRFT_ANSWER_TOO_BIG;
    } else if (d->value.n == 0) {
        answer->status = QRFT_ANSWER_NOT_A_NUMBER;
    } else {
        answer->value = rational_make((u128)n->value.n, (u128)d->value.n);
        if (whole && !rational_add(whole->value, answer->value, &answer->value)) answer->status = QRFT_ANSWER_TOO_BIG;
    }
}

/* The 1/2 of "1 1/2"; only a proper fraction belongs to the number before it. */
static bool read_mixed(qrft_answer *answer, const qrft_literal *whole, const uint8_t *end) {
    qrft_literal n, d;
    const uint8_t *at = skip_blanks(whole->end, end);
    if (at == whole->end || !read_whole(at, end, &n) || !read_denominator(n.end, end, &d)) return false;
    if (!n.too_big && !d.too_big && n.value.n >= d.value.n) return false;
    set_value(answer, whole, &n, &d);
    answer->end = d.end;
    return true;
}

static bool read_fraction(qrft_answer *answer, const qrft_literal *n, const uint8_t *end) {
    qrft_literal d;
    if (!read_denominator(n->end, end, &d)) return false;
    set_value(answer, NULL, n, &d);
    answer->end = d.end;
    return true;
}

static void read_number(qrft_answer *answer, const uint8_t *at, const uint8_t *end) {
    qrft_literal literal = literal_read(at, end);
    bool is_whole = literal.places == 0;
    if (is_whole && (read_fraction(answer, &literal, end) || read_mixed(answer, &literal, end))) return;
    answer->end = literal.end;
    answer->value = literal.value;
    if (literal.too_big) answer->status = QRFT_ANSWER_TOO_BIG;
}

/* ----------------------------------------------------------------------------------------- what comes after it ---- */

/* "1.2.3", "1,00", "1e5": what was read is only a part of something else. */
static bool is_cut_short(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '.') || has_byte(at, end, ',')) return has_digit(at + 1, end);
    if (!has_byte(at, end, 'e') && !has_byte(at, end, 'E')) return false;
    at++;
    return has_digit(at + sign_length(at, end), end);
}

static int operator_length(const uint8_t *at, const uint8_t *end) {
    if (at < end && (*at == '^' || *at == ':')) return 1;
    int length = sign_length(at, end);
    if (length == 0) length = times_length(at, end);
    return length ? length : divide_length(at, end);
}

/* "10 - 3", "10:30", "2 x 4": an expression, not a number. */
static bool goes_on(const uint8_t *at, const uint8_t *end) {
    at = skip_blanks(at, end);
    int length = operator_length(at, end);
    return length > 0 && literal_starts(skip_blanks(at + length, end), end);
}

/* What stands after a marker when it is not a number: the rest of its line, without the white space around it. */
static void take_line(qrft_answer *answer, const uint8_t *at, const uint8_t *end) {
    const uint8_t *line_end = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    if (line_end) end = line_end;
    while (at < end && is_space(*at)) at++;
    while (end > at && is_space(end[-1])) end--;
    answer->start = at;
    answer->end = end;
    answer->status = QRFT_ANSWER_NOT_A_NUMBER;
}

/* -------------------------------------------------------------------------------------------------- the whole ---- */

/* Reads what follows a marker. False, and nothing set, when no number begins there. */
static bool read_after_marker(qrft_answer *answer, const uint8_t *at, const uint8_t *end) {
    bool negative = false;
    const uint8_t *digits = skip_prefixes(at, end, &negative);
    if (!literal_starts(digits, end)) return false;
    answer->start = skip_blanks(at, end);
    answer->status = QRFT_ANSWER_OK;
    read_number(answer, digits, end);
    if (negative) answer->value.n = -answer->value.n;
    if (answer->status == QRFT_ANSWER_NOT_A_NUMBER || is_cut_short(answer->end, end) || goes_on(answer->end, end)) {
        take_line(answer, at, end);
    }
    return true;
}

/* The first byte after the next run of four or more #, or NULL. */
static const uint8_t *after_marker(const uint8_t *at, const uint8_t *end) {
    while (at < end && (at = memchr(at, '#', (size_t)(end - at)))) {
        const uint8_t *start = at;
        while (has_byte(at, end, '#')) at++;
        if (at - start >= 4) return at;
    }
    return NULL;
}

/* Only the first marker's line is looked for: one look a marker would be quadratic on a line full of markers. */
qrft_answer answer_find(const uint8_t *text, const uint8_t *end, const qrft_options *options) {
    if (options->paper_mode) return paper_answer_find(text, end);
    qrft_answer answer = {.status = QRFT_ANSWER_NO_MARKER};
    const uint8_t *first = after_marker(text, end);
    for (const uint8_t *at = first; at; at = after_marker(at, end)) {
        if (read_after_marker(&answer, at, end)) return answer;
    }
    if (first) take_line(&answer, first, end);
    return answer;
}

qrft_answer answer_read(const uint8_t *text, const uint8_t *end, const qrft_options *options) {
    if (options->paper_mode) return paper_answer_read(text, end);
    qrft_answer answer = {.status = QRFT_ANSWER_NO_MARKER};
    while (text < end && is_space(*text)) text++;
    if (!read_after_marker(&answer, text, end)) take_line(&answer, text, end);
    return answer;
}
