#include <string.h>

#include "answer/chars.h"
#include "answer/follow.h"
#include "answer/latex.h"
#include "answer/number.h"
#include "answer/signs.h"
#include "text/literal.h"

const uint8_t *skip_gap(const uint8_t *at, const uint8_t *end, bool is_math) {
    const uint8_t *start;
    do {
        start = at;
        at = skip_blanks(is_math ? skip_space(at, end) : at, end);
    } while (is_math && at != start);
    return at;
}

/* ------------------------------------------------------------------------------------------------------ words ---- */

/* Words that join numbers, or say when one holds: no number that they follow is the whole answer. */
static const char CONDITIONS[] = "and or to if when where unless otherwise except not base";

/* Words that may stand between two numbers without making them parts of one answer: "7 of 8". */
static const char PREPOSITIONS[] = "of in at per by for from on with than as is are was were";

static const uint8_t *skip_letters(const uint8_t *at, const uint8_t *end) {
    while (has_letter(at, end)) at++;
    return at;
}

/* Whether the letters up to `stop` are one of `words`, which spaces separate, in any case. */
static bool is_one_of(const uint8_t *at, const uint8_t *stop, const char *words) {
    while (*words) {
        size_t length = strcspn(words, " "), same = 0;
        while (same < length && at + same < stop && (at[same] | 0x20) == (uint8_t)words[same]) same++;
        if (same == length && at + same == stop) return true;
        words += length;
        words += *words == ' ';
    }
    return false;
}

/* The length of the word at `at` if it is one of `words`; else 0. */
static int word_length(const uint8_t *at, const uint8_t *end, const char *words) {
    const uint8_t *stop = skip_letters(at, end);
    return stop > at && is_one_of(at, stop, words) ? (int)(stop - at) : 0;
}

/* Whether these bytes hold another number or a condition, and not only a unit such as cm2, m^2 or H2O. */
static bool says_more(const uint8_t *at, const uint8_t *end) {
    for (const uint8_t *start = at; at < end;) {
        if (is_digit(*at) && !(at > start && (is_letter(at[-1]) || at[-1] == '^'))) return true;
        const uint8_t *stop = skip_letters(at, end);
        if (stop > at && is_one_of(at, stop, CONDITIONS)) return true;
        at = stop > at ? stop : at + 1;
    }
    return false;
}

/* ---------------------------------------------------------------------------------------------------- in math ---- */

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
        if (says_more(at + text, close ? close : end)) return NULL;
        return close ? skip_unit_power(close + 1, end) : end;
    }
    const uint8_t *stop = skip_letters(at, end);
    if (stop - at < 2 || is_one_of(at, stop, "pi") || is_one_of(at, stop, CONDITIONS)) return NULL;
    return skip_unit_power(stop, end);
}

/* The _ of 101_2, which no mark of Markdown is. */
static bool has_subscript(const uint8_t *at, const uint8_t *end) {
    if (!has_byte(at, end, '_') || at + 1 == end) return false;
    return is_letter(at[1]) || is_digit(at[1]) || at[1] == '{' || at[1] == '\\';
}

/* What may follow a number in math without being a part of it, other than words. */
static int dressing_length(const uint8_t *at, const uint8_t *end) {
    if (has_subscript(at, end)) return 0;
    if (has_byte(at, end, '.') || has_byte(at, end, '%') || has_mark(at, end)) return 1;
    if (has_byte(at, end, '\\') && has_byte(at + 1, end, '%')) return 2;
    int length = latex_space_length(at, end);
    if (length == 0) length = degree_length(at, end);
    if (length == 0 && !has_byte(at, end, '$')) length = answer_currency_length(at, end);
    return length;
}

/* Skips units up to where all that the opening opened is closed, or to the end; NULL when anything else stands there.
 */
static const uint8_t *skip_units(const qrft_opening *o, const uint8_t *at, const uint8_t *end) {
    for (int64_t num_open = o->num_open;;) {
        at = skip_gap(at, end, true);
        if (at == end) return at;
        int length = dressing_length(at, end);
        const uint8_t *unit_end = length ? at + length : read_unit(at, end);
        if (!unit_end) {
            length = closer_length(at, end);
            if (length == 0) return NULL;
            unit_end = at + length;
            if (--num_open <= 0 && !o->is_whole) return unit_end;
        }
        at = unit_end;
    }
}

/* ---------------------------------------------------------------------------------------------- directly after ---- */

/* "5 000": a plain space and three digits may be a group of thousands or another number. */
static bool has_group(const uint8_t *start, const uint8_t *at, const uint8_t *end) {
    if (at - start > 3 || *start == '0' || memchr(start, '.', (size_t)(at - start))) return false;
    if (end - at < 4 || *at != ' ') return false;
    return is_digit(at[1]) && is_digit(at[2]) && is_digit(at[3]) && !has_digit(at + 4, end);
}

/* The 30 of "5h30", the 101 of "0b101", the end of "0xFF"; not the 2 of "5m2", which is a power. Or NULL. */
static const uint8_t *after_letters(const uint8_t *start, const uint8_t *at, const uint8_t *end) {
    const uint8_t *digits = skip_letters(at, end);
    if (digits == at) return NULL;
    if (at - start == 1 && *start == '0' && digits - at > 1 && (*at | 0x20) == 'x') return digits;
    bool is_power = has_byte(digits, end, '2') || has_byte(digits, end, '3');
    if (is_power && !has_digit(digits + 1, end) && !has_letter(digits + 1, end)) return NULL;
    return has_digit(digits, end) ? digits : NULL;
}

/* A sign or two of another script between digits: "1·5", "12٫5", "3点30". */
#define MAX_SIGNS_BYTES 6

static const uint8_t *after_signs(const uint8_t *at, const uint8_t *end) {
    const uint8_t *start = at;
    while (at < end && *at >= 0x80 && at - start < MAX_SIGNS_BYTES) at++;
    return at > start && has_digit(at, end) ? at : NULL;
}

/* What may stand between the digits of one number, and is no operator. */
static int link_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '.')) return has_byte(at + 1, end, '(') ? 2 : 1;
    if (has_byte(at, end, '_') || has_byte(at, end, '(')) return 1;
    int length = wide_separator_length(at, end);
    return length ? length : latex_space_length(at, end);
}

/* Where a number from `start` to `at` goes on: at the digits behind what joins them to it, or behind a sign; or NULL.
 */
static const uint8_t *next_digits(const uint8_t *start, const uint8_t *at, const uint8_t *end) {
    if (at == end || *at == '\n') return NULL; /* nearly always */
    int exponent = *at == 'e' || *at == 'E' ? 1 + sign_length(at + 1, end) : 0;
    if (exponent && has_digit(at + exponent, end)) return at + exponent;
    int link = link_length(at, end);
    if (link && has_digit(at + link, end)) return at + link;
    qrft_sign sign = sign_at(at, end);
    if (sign.code && sign_is_numeric(sign.code)) return at + sign.length;
    const uint8_t *digits = after_signs(at, end);
    if (!digits) digits = after_letters(start, at, end);
    return digits || !has_group(start, at, end) ? digits : at + 1;
}

const uint8_t *number_tail(const uint8_t *start, const uint8_t *at, const uint8_t *end) {
    const uint8_t *first = next_digits(start, at, end);
    for (const uint8_t *digits = first; digits; digits = next_digits(start, at, end)) {
        start = at = digits;
        while (has_digit(at, end)) at++;
    }
    return first ? at : NULL;
}

/* 3.33... is no 3.33; dots after a whole number are only punctuation. */
static bool is_truncated(const uint8_t *start, const uint8_t *at, const uint8_t *end) {
    bool has_dots = wide_sign_length(at, end, 0xE2, 0x80, 0xA6); /* U+2026 */
    has_dots |= has_byte(at, end, '.') && has_byte(at + 1, end, '.') && has_byte(at + 2, end, '.');
    return has_dots && memchr(start, '.', (size_t)(at - start));
}

/* -------------------------------------------------------------------------------------------------- operators ---- */

static int operator_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '^') || has_byte(at, end, ':') || has_byte(at, end, '~')) return 1;
    int length = sign_length(at, end);
    if (length == 0) length = times_length(at, end);
    if (length == 0) length = divide_length(at, end);
    if (length) return length;
    qrft_sign sign = sign_at(at, end);
    return sign.code && sign_is_operator(sign.code) ? sign.length : 0;
}

/* "101 base 2", "101 (in base two)". */
static bool has_base(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '(')) at++;
    at = skip_blanks(at, end);
    int in = word_length(at, end, "in");
    return word_length(skip_blanks(at + in, end), end, "base");
}

/* "and a half", "and three quarters". */
static bool has_fraction_in_words(const uint8_t *at, const uint8_t *end) {
    int and = word_length(at, end, "and");
    if (and == 0) return false;
    static const char NAMES[] = "half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths "
                                "eighth eighths tenth tenths";
    at = skip_blanks(at + and, end);
    if (word_length(at, end, NAMES)) return true;
    at = skip_letters(at, end);
    if (has_byte(at, end, '-')) at++;
    return word_length(skip_blanks(at, end), end, NAMES);
}

/* "10 - 3", "10:30", "2 x 4", "2\sqrt{3}", "2√3". */
static bool goes_on(const uint8_t *at, const uint8_t *end) {
    at = skip_blanks(at, end);
    if (at == end || degree_length(at, end)) return false;
    if (has_command(at, end)) return true;
    if (*at == '^' && at + 1 < end && !is_space(at[1])) return true;
    qrft_sign sign = sign_at(at, end);
    if (sign.code && sign_makes_expression(sign.code)) return true;
    int length = operator_length(at, end);
    if (length == 0) return has_base(at, end) || has_fraction_in_words(at, end);
    at = skip_blanks(at + length, end);
    at += answer_currency_length(at, end);
    return literal_starts(at, end) || has_command(at, end);
}

bool number_is_head(const uint8_t *start, const uint8_t *at, const uint8_t *end) {
    if (at == end || degree_length(at, end)) return false;
    qrft_sign sign = sign_at(at, end);
    if (sign.code) return sign_makes_expression(sign.code) || is_truncated(start, at, end);
    if (*at == '^') return at + 1 < end && !is_space(at[1]);
    return has_command(at, end) || is_truncated(start, at, end);
}

/* ------------------------------------------------------------------------------------------------------ parts ---- */

/* "and", ", ", "; and": what joins the parts of an answer. `at` itself when nothing does. */
static const uint8_t *skip_joint(const uint8_t *at, const uint8_t *end) {
    at = skip_blanks(at, end);
    if (has_byte(at, end, ',') || has_byte(at, end, ';')) at = skip_blanks(at + 1, end);
    if (has_byte(at, end, '&')) return at + 1;
    return at + word_length(at, end, "and or to");
}

/* The math that opens at `at`: where it ends, or NULL. */
static const uint8_t *read_math(const uint8_t *text, const uint8_t *at, const uint8_t *end) {
    int length = math_length(text, at, end);
    return length ? end_of_math(at + length, end) : NULL;
}

/* A number or math: where it ends, or NULL. */
static const uint8_t *read_part(const uint8_t *text, const uint8_t *at, const uint8_t *end) {
    at = skip_blanks(at, end);
    const uint8_t *math = read_math(text, at, end);
    if (math) return math;
    at += sign_length(at, end);
    at += answer_currency_length(at, end);
    return number_starts(at, end) ? number_read(at, end).end : NULL;
}

/* "(years old)": where it ends, or NULL. */
static const uint8_t *read_remark(const uint8_t *at, const uint8_t *end) {
    const uint8_t *close = has_byte(at, end, '(') ? memchr(at, ')', (size_t)(end - at)) : NULL;
    return close ? close + 1 : NULL;
}

/* A word that may be a unit, with the full stop of a short one: "feet", "ft."; where it ends, or NULL. */
static const uint8_t *read_unit_word(const uint8_t *at, const uint8_t *end) {
    const uint8_t *stop = skip_letters(at, end);
    bool is_short = stop - at <= 3 && has_byte(stop, end, '.');
    if (stop == at || is_one_of(at, stop, CONDITIONS)) return NULL;
    if (!is_short && is_one_of(at, stop, PREPOSITIONS)) return NULL;
    return stop + is_short;
}

static int unit_sign_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '%') || has_byte(at, end, '\'') || has_byte(at, end, '"') || has_mark(at, end)) return 1;
    int length = degree_length(at, end);
    if (length == 0) length = wide_sign_length(at, end, 0xE2, 0x80, 0xB2); /* U+2032, the prime */
    if (length == 0) length = wide_sign_length(at, end, 0xE2, 0x80, 0xB3);
    return length || has_byte(at, end, '$') ? length : answer_currency_length(at, end);
}

/* Skips a unit of up to two words, remarks and signs. */
static const uint8_t *skip_unit(const uint8_t *at, const uint8_t *end) {
    for (int num_words = 0;;) {
        const uint8_t *start = at = skip_blanks(at, end), *stop;
        at += unit_sign_length(at, end);
        if ((stop = read_remark(at, end))) at = stop;
        if (num_words < 2 && (stop = read_unit_word(at, end))) at = stop, num_words++;
        if (at == start) return at;
    }
}

static bool is_end_of_answer(const uint8_t *at, const uint8_t *end) {
    at = skip_blanks(at, end);
    while (has_byte(at, end, '.') || has_byte(at, end, '!') || has_mark(at, end) || has_byte(at, end, '\r')) at++;
    return at == end;
}

/*
 * "5 feet 6 inches", "17 and 12", "$4$ or $5$": whether the rest of the line, up to `end`, is nothing but other parts
 * and units. A blank alone joins parts only where each has a unit.
 */
static bool has_other_parts(const uint8_t *text, const uint8_t *at, const uint8_t *end) {
    int64_t num_parts = 0;
    bool needs_unit = false;
    for (;;) {
        const uint8_t *unit = skip_unit(at, end), *joint = skip_joint(unit, end);
        bool has_unit = unit > skip_blanks(at, end), has_joint = joint > unit;
        if (needs_unit && !has_unit) return false;
        const uint8_t *part = has_unit || has_joint ? read_part(text, joint, end) : NULL;
        if (!part) return num_parts > 0 && is_end_of_answer(unit, end);
        needs_unit = !has_joint;
        num_parts++;
        at = part;
    }
}

const uint8_t *end_of_math_parts(const uint8_t *text, const uint8_t *at, const uint8_t *end) {
    for (end = end_of_line(at, end);;) {
        const uint8_t *joint = skip_joint(at, end);
        const uint8_t *part = joint > skip_blanks(at, end) ? read_math(text, skip_blanks(joint, end), end) : NULL;
        if (!part) return at;
        at = part;
    }
}

/* -------------------------------------------------------------------------------------------------- the whole ---- */

enum qrft_answer_status what_follows(const qrft_opening *o, const uint8_t *at, const uint8_t *end) {
    if (is_truncated(o->at, at, end)) return QRFT_ANSWER_EXPRESSION;
    if (o->is_math) {
        at = skip_units(o, at, end);
        if (!at) return QRFT_ANSWER_EXPRESSION;
        if (o->box) return QRFT_ANSWER_OK;
    }
    for (int64_t i = 0; i < o->num_marks && has_mark(at, end); i++) at++;
    if (at == end || *at == '\n') return QRFT_ANSWER_OK;
    if (goes_on(at, end)) return QRFT_ANSWER_EXPRESSION;
    if (next_digits(o->at, at, end)) return QRFT_ANSWER_NOT_A_NUMBER;
    if (o->is_whole ? says_more(at, end) : has_other_parts(o->text, at, end_of_line(at, end)))
        return QRFT_ANSWER_EXPRESSION;
    return QRFT_ANSWER_OK;
}
