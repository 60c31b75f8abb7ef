/*
 * Reads an answer at a place where one should stand. The opening is what stands before it (signs, Markdown, LaTeX);
 * what follows it then tells whether the number is the whole answer.
 *
 * Opening and answer are apart because a format that takes the last of many answers looks at each opening, in time
 * linear in all of them, but reads on only behind the last.
 */
#include <string.h>

#include "answer/chars.h"
#include "answer/follow.h"
#include "answer/latex.h"
#include "answer/number.h"
#include "answer/read.h"
#include "text/literal.h"

/* ------------------------------------------------------------------------------------------------- the opening ---- */

typedef struct {
    bool sign_seen;
    bool currency_seen;
} prefixes;

static void open_box(qrft_opening *o, const uint8_t *content) {
    o->box = o->at = content;
    o->is_math = true;
    o->num_open = 1; /* what stands around a box does not matter */
    o->expression_start = o->number_start;
}

/* Skips one thing that may stand before an answer; false when there is none. */
static bool skip_prefix(qrft_opening *o, const uint8_t *end, prefixes *seen) {
    const uint8_t *at = o->at, *content;
    int length;
    if (!seen->sign_seen && (length = sign_length(at, end))) {
        seen->sign_seen = true;
        o->is_negative = *at != '+';
        if (!o->number_start) o->number_start = at;
    } else if ((content = box_content(at, end))) {
        open_box(o, content);
        return true;
    } else if ((length = math_length(o->text, at, end))) {
        o->is_math = true;
        o->has_math = true;
        o->num_open++;
    } else if (!seen->currency_seen && (length = answer_currency_length(at, end))) {
        seen->currency_seen = true;
        if (!o->number_start) o->number_start = at;
    } else if ((length = has_byte(at, end, '{') ? 1 : text_length(at, end))) {
        o->num_open++;
    } else if (has_mark(at, end)) {
        o->num_marks++;
        o->at++;
        return true;
    } else {
        return false;
    }
    if (!o->expression_start) o->expression_start = at;
    o->at += length;
    return true;
}

static void skip_prefixes(qrft_opening *o, const uint8_t *end) {
    prefixes seen = {false, false};
    do {
        o->at = skip_gap(o->at, end, o->is_math);
    } while (!has_digit(o->at, end) && skip_prefix(o, end, &seen));
}

/* "x + 1", "y =": a letter alone, and an operator. */
static bool has_variable(const uint8_t *at, const uint8_t *end) {
    if (!has_letter(at, end) || has_letter(at + 1, end)) return false;
    at = skip_blanks(at + 1, end);
    if (at < end && *at != 0 && strchr("-+*/^=<>", *at)) return true;
    return minus_length(at, end) || cross_length(at, end) || obelus_length(at, end);
}

static int bracket_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '\\')) return has_byte(at + 1, end, '{') ? 2 : 0;
    return has_byte(at, end, '(') || has_byte(at, end, '[') || has_byte(at, end, '|');
}

/* Looks through so many brackets: no answer has more, and a text full of brackets stays linear. */
#define MAX_BRACKETS 8

/* Whether an expression begins outside math, where most of what is no number is words. */
static bool expression_starts(const uint8_t *at, const uint8_t *end) {
    int num_brackets = 0;
    for (int length; num_brackets < MAX_BRACKETS && (length = bracket_length(at, end)); num_brackets++) {
        at = skip_blanks(at + length, end);
        at += sign_length(at, end);
    }
    if (has_command(at, end) || has_variable(at, end)) return true;
    if (num_brackets == 0) return false;
    return literal_starts(at, end) || (has_letter(at, end) && has_byte(skip_blanks(at + 1, end), end, ','));
}

static void read_opening(qrft_opening *o, const uint8_t *end) {
    skip_prefixes(o, end);
    if (number_starts(o->at, end)) {
        o->kind = QRFT_NUMBER;
    } else if (o->is_math ? o->at < end && !closer_length(o->at, end) : expression_starts(o->at, end)) {
        o->kind = QRFT_EXPRESSION;
    }
}

qrft_opening opening_read(const uint8_t *text, const uint8_t *at, const uint8_t *end) {
    qrft_opening o = {.text = text, .from = at, .at = at};
    read_opening(&o, end);
    return o;
}

qrft_opening opening_read_whole(const uint8_t *text, const uint8_t *end, bool is_math) {
    qrft_opening o = {.text = text, .from = text, .at = text, .is_math = is_math, .is_whole = true};
    read_opening(&o, end);
    return o;
}

/* ---------------------------------------------------------------------------------------------------- the span ---- */

/* The closing brace of the box whose content begins at `at`, or the end of the line when it is never closed. */
static const uint8_t *end_of_box(const uint8_t *at, const uint8_t *end) {
    int64_t depth = 0;
    for (const uint8_t *brace = at; brace < end; brace++) {
        if (*brace == '\\') {
            if (++brace == end) break;
        } else if (*brace == '{') {
            depth++;
        } else if (*brace == '}' && depth-- == 0) {
            return brace;
        }
    }
    return end_of_line(at, end);
}

static bool has_full_stop(const uint8_t *start, const uint8_t *end) {
    return end > start && end[-1] == '.' && !(end - start > 1 && end[-2] == '.');
}

/* The bytes between, without white space around them, and without a full stop when has_stop; three dots are none. */
static qrft_answer trimmed(enum qrft_answer_status status, const uint8_t *start, const uint8_t *end, bool has_stop) {
    if (start > end) start = end;
    start = skip_space(start, end);
    while (end > start && (is_space(end[-1]) || (has_stop && has_full_stop(start, end)))) end--;
    return (qrft_answer){start, end, status, {0, 1}};
}

qrft_answer answer_missing(const uint8_t *at, const uint8_t *end) {
    const uint8_t *content = box_content(at, end);
    if (content) return trimmed(QRFT_ANSWER_NOT_A_NUMBER, content, end_of_box(content, end), false);
    return trimmed(QRFT_ANSWER_NOT_A_NUMBER, at, end_of_line(at, end), false);
}

/* Whether more stands after a box than what closes it, and punctuation. */
static bool goes_on_after(const uint8_t *at, const uint8_t *end) {
    for (int length = 1; length; at += length) {
        at = skip_gap(at, end, true);
        length = closer_length(at, end);
        if (length == 0) length = has_byte(at, end, '.') || has_mark(at, end);
    }
    return at < end;
}

static qrft_answer expression(const qrft_opening *o, const uint8_t *end) {
    const uint8_t *start = o->expression_start ? o->expression_start : o->at;
    if (o->box && !(o->is_whole && goes_on_after(end_of_box(o->box, end), end))) {
        return trimmed(QRFT_ANSWER_EXPRESSION, start, end_of_box(o->box, end), false);
    }
    if (o->box) start = o->from;
    if (o->is_whole) return trimmed(QRFT_ANSWER_EXPRESSION, start, end, true);
    const uint8_t *math_end = o->has_math ? end_of_math(o->at, end) : NULL;
    if (math_end) {
        return (qrft_answer){start, end_of_math_parts(o->text, math_end, end), QRFT_ANSWER_EXPRESSION, {0, 1}};
    }
    return trimmed(QRFT_ANSWER_EXPRESSION, start, end_of_line(o->at, end), true);
}

/* -------------------------------------------------------------------------------------------------- the answer ---- */

qrft_answer opening_answer(const qrft_opening *o, const uint8_t *end) {
    if (o->kind == QRFT_EXPRESSION) return expression(o, end);
    qrft_number number = number_read(o->at, end);
    enum qrft_answer_status status = number.status;
    if (status != QRFT_ANSWER_NOT_A_NUMBER) status = what_follows(o, number.end, end);
    if (status == QRFT_ANSWER_EXPRESSION) return expression(o, end);
    if (status == QRFT_ANSWER_NOT_A_NUMBER) return answer_missing(o->from, end);
    if (o->is_negative) number.value.n = -number.value.n;
    return (qrft_answer){o->number_start ? o->number_start : o->at, number.end, number.status, number.value};
}
