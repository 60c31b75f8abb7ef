/*
 * Reads an answer at a place where one should stand. The opening is what stands before it (signs, Markdown, LaTeX);
 * what follows it then tells whether the number is the whole answer.
 *
 * Opening and answer are apart because a format that takes the last of many answers looks at each opening, in time
 * linear in all of them, but reads on only behind the last.
 */
#include <string.h>

#include "answer/chars.h"
#include "answer/latex.h"
#include "answer/number.h"
#include "answer/read.h"
#include "text/literal.h"

/* ------------------------------------------------------------------------------------------------------- LaTeX ---- */

/* \text{ and its like, whose content is words. */
static int text_length(const uint8_t *at, const uint8_t *end) {
    int name = command_length(at, end, "text textbf textit textrm mathrm mathbf mbox");
    return name && has_byte(at + name, end, '{') ? name + 1 : 0;
}

/* A command that makes an expression of what it stands in: any that is not text, a degree or space. */
static bool has_command(const uint8_t *at, const uint8_t *end) {
    if (!has_byte(at, end, '\\') || !has_letter(at + 1, end)) return false;
    return !text_length(at, end) && !command_length(at, end, "circ quad qquad");
}

static int degree_length(const uint8_t *at, const uint8_t *end) {
    if (!has_byte(at, end, '^')) return wide_sign_length(at, end, 0xC2, 0xB0, 0); /* U+00B0 */
    bool has_brace = has_byte(at + 1, end, '{');
    int name = command_length(at + 1 + has_brace, end, "circ");
    if (name == 0) return 0;
    if (!has_brace) return 1 + name;
    return has_byte(at + 2 + name, end, '}') ? 3 + name : 0;
}

/*
 * Whether the $ at `at` opens math: another closes it on this line, as Pandoc tells math from money. Never after a
 * backslash, where a reading begins only if the caller's marker ends in one: the $ that one search takes for escaped
 * would each begin another over the same bytes.
 */
static bool dollar_opens_math(const uint8_t *text, const uint8_t *at, const uint8_t *end) {
    if (at > text && at[-1] == '\\') return false;
    for (const uint8_t *close = at + 1; close < end && *close != '\n'; close++) {
        if (*close == '\\') {
            close++;
            if (has_byte(close, end, '\n')) return false;
        } else if (*close == '$') {
            return close[-1] != ' ' && close[-1] != '\t' && !has_digit(close + 1, end);
        }
    }
    return false;
}

static int math_length(const uint8_t *text, const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '\\')) return has_byte(at + 1, end, '(') || has_byte(at + 1, end, '[') ? 2 : 0;
    if (!has_byte(at, end, '$')) return 0;
    return has_byte(at + 1, end, '$') ? 2 : dollar_opens_math(text, at, end);
}

static int closer_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '}') || has_byte(at, end, '$')) return 1;
    return has_byte(at, end, '\\') && (has_byte(at + 1, end, ')') || has_byte(at + 1, end, ']')) ? 2 : 0;
}

/* White space and the no-break space; a line break only within math. */
static const uint8_t *skip_gap(const uint8_t *at, const uint8_t *end, bool is_math) {
    const uint8_t *start;
    do {
        start = at;
        at = skip_blanks(is_math ? skip_space(at, end) : at, end);
    } while (is_math && at != start);
    return at;
}

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
static bool skip_prefix(qrft_opening *o, const uint8_t *text, const uint8_t *end, prefixes *seen) {
    const uint8_t *at = o->at, *content;
    int length;
    if (!seen->sign_seen && (length = sign_length(at, end))) {
        seen->sign_seen = true;
        o->is_negative = *at != '+';
        if (!o->number_start) o->number_start = at;
    } else if ((content = box_content(at, end))) {
        open_box(o, content);
        return true;
    } else if ((length = math_length(text, at, end))) {
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

static void skip_prefixes(qrft_opening *o, const uint8_t *text, const uint8_t *end) {
    prefixes seen = {false, false};
    do {
        o->at = skip_gap(o->at, end, o->is_math);
    } while (!has_digit(o->at, end) && skip_prefix(o, text, end, &seen));
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

qrft_opening opening_read(const uint8_t *text, const uint8_t *at, const uint8_t *end, bool is_math) {
    qrft_opening o = {.from = at, .at = at, .is_math = is_math};
    skip_prefixes(&o, text, end);
    if (number_starts(o.at, end)) {
        o.kind = QRFT_NUMBER;
    } else if (o.is_math ? o.at < end && !closer_length(o.at, end) : expression_starts(o.at, end)) {
        o.kind = QRFT_EXPRESSION;
    }
    return o;
}

/* --------------------------------------------------------------------------------------------- what follows it ---- */

/* The 2 of cm^2. */
static const uint8_t *skip_unit_power(const uint8_t *at, const uint8_t *end) {
    if (!has_byte(at, end, '^')) return at;
    if (has_digit(at + 1, end)) return at + 2;
    return has_byte(at + 1, end, '{') && has_digit(at + 2, end) && has_byte(at + 3, end, '}') ? at + 4 : at;
}

/* "apples", "\text{ cm}^2": where it ends, or NULL. One letter alone is a variable; so is pi. */
static const uint8_t *read_unit(const uint8_t *at, const uint8_t *end) {
    int text = text_length(at, end);
    if (text) {
        const uint8_t *close = memchr(at + text, '}', (size_t)(end - at - text));
        return close ? skip_unit_power(close + 1, end) : end;
    }
    const uint8_t *stop = at;
    while (has_letter(stop, end)) stop++;
    bool is_pi = stop - at == 2 && (at[0] | 0x20) == 'p' && (at[1] | 0x20) == 'i';
    return stop - at < 2 || is_pi ? NULL : skip_unit_power(stop, end);
}

static int latex_space_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '~')) return 1;
    if (!has_byte(at, end, '\\') || end - at < 2) return 0;
    if (at[1] == ' ' || at[1] == ',' || at[1] == ';' || at[1] == ':' || at[1] == '!') return 2;
    return command_length(at, end, "quad qquad");
}

/* What may follow a number in math without being a part of it, other than words. */
static int dressing_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '.') || has_byte(at, end, '%') || has_mark(at, end)) return 1;
    if (has_byte(at, end, '\\') && has_byte(at + 1, end, '%')) return 2;
    int length = latex_space_length(at, end);
    if (length == 0) length = degree_length(at, end);
    if (length == 0 && !has_byte(at, end, '$')) length = answer_currency_length(at, end);
    return length;
}

/* Whether only units follow, up to where all that the opening opened is closed. */
static bool is_whole_in_math(const uint8_t *at, const uint8_t *end, int64_t num_open) {
    for (;;) {
        at = skip_gap(at, end, true);
        if (at == end) return true;
        int length = dressing_length(at, end);
        const uint8_t *unit_end = length ? at + length : read_unit(at, end);
        if (!unit_end) {
            length = closer_length(at, end);
            if (length == 0) return false;
            if (--num_open <= 0) return true;
            unit_end = at + length;
        }
        at = unit_end;
    }
}

/* "1.2.3", "1,00": what was read is only a part of something else. */
static bool is_cut_short(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, 'e') || has_byte(at, end, 'E')) {
        at++;
        return has_digit(at + sign_length(at, end), end);
    }
    return has_digit(at + (has_byte(at, end, '.') ? 1 : separator_length(at, end)), end);
}

static int operator_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '^') || has_byte(at, end, ':')) return 1;
    int length = sign_length(at, end);
    if (length == 0) length = times_length(at, end);
    return length ? length : divide_length(at, end);
}

/* "10 - 3", "10:30", "2 x 4", "2\sqrt{3}". */
static bool goes_on(const uint8_t *at, const uint8_t *end) {
    at = skip_blanks(at, end);
    if (degree_length(at, end)) return false;
    if (has_command(at, end)) return true;
    if (has_byte(at, end, '^') && at + 1 < end && !is_space(at[1])) return true;
    int length = operator_length(at, end);
    if (length == 0) return false;
    at = skip_blanks(at + length, end);
    at += answer_currency_length(at, end);
    return literal_starts(at, end) || has_command(at, end);
}

/* Whether the number that ends at `at` is the answer: QRFT_ANSWER_OK, _EXPRESSION or _NOT_A_NUMBER. */
static enum qrft_answer_status what_follows(const qrft_opening *o, const uint8_t *at, const uint8_t *end) {
    if (o->is_math) return is_whole_in_math(at, end, o->num_open) ? QRFT_ANSWER_OK : QRFT_ANSWER_EXPRESSION;
    for (int64_t i = 0; i < o->num_marks && has_mark(at, end); i++) at++;
    if (is_cut_short(at, end)) return QRFT_ANSWER_NOT_A_NUMBER;
    return goes_on(at, end) ? QRFT_ANSWER_EXPRESSION : QRFT_ANSWER_OK;
}

/* ---------------------------------------------------------------------------------------------------- the span ---- */

static const uint8_t *end_of_line(const uint8_t *at, const uint8_t *end) {
    const uint8_t *line_end = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    return line_end ? line_end : end;
}

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

/* The end of the first $, $$, \) or \], or NULL. */
static const uint8_t *end_of_math(const uint8_t *at, const uint8_t *end) {
    for (; at < end; at++) {
        if (*at == '$') return at + 1 + has_byte(at + 1, end, '$');
        if (*at != '\\') continue;
        if (++at == end) return NULL;
        if (*at == ')' || *at == ']') return at + 1;
    }
    return NULL;
}

/* The bytes between, without white space around them, and without a full stop when has_stop. */
static qrft_answer trimmed(enum qrft_answer_status status, const uint8_t *start, const uint8_t *end, bool has_stop) {
    if (start > end) start = end;
    start = skip_space(start, end);
    while (end > start && (is_space(end[-1]) || (has_stop && end[-1] == '.'))) end--;
    return (qrft_answer){start, end, status, {0, 1}};
}

qrft_answer answer_missing(const uint8_t *at, const uint8_t *end) {
    const uint8_t *content = box_content(at, end);
    if (content) return trimmed(QRFT_ANSWER_NOT_A_NUMBER, content, end_of_box(content, end), false);
    return trimmed(QRFT_ANSWER_NOT_A_NUMBER, at, end_of_line(at, end), false);
}

static qrft_answer expression(const qrft_opening *o, const uint8_t *end) {
    const uint8_t *start = o->expression_start ? o->expression_start : o->at;
    if (o->box) return trimmed(QRFT_ANSWER_EXPRESSION, start, end_of_box(o->box, end), false);
    const uint8_t *math_end = o->has_math ? end_of_math(o->at, end) : NULL;
    if (math_end) return (qrft_answer){start, math_end, QRFT_ANSWER_EXPRESSION, {0, 1}};
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
