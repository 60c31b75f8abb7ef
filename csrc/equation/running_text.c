/*
 * Equations in running text, such as 12 + 5 = 17.
 *
 * It is read once, from left to right, without going back. A *chain* is numbers joined by operators, brackets
 * and =, as in 2 * (3 + 4) = 14. It is an equation when it has an operator and a =, ends after a number, and nothing
 * joins it to what stands before or after: 3x + 12 + 5 = 20 holds no equation, since + joins 12 to what is not read.
 */
#include <stddef.h>
#include <string.h>

#include "equation/check.h"
#include "equation/running_text.h"
#include "text/literal.h"

/* ------------------------------------------------------------------------------------------------------ signs ---- */

static bool is_ascii_blank(uint8_t byte) {
    return byte == ' ' || byte == '\t';
}

static bool is_word_byte(uint8_t byte) {
    return ((byte | 32) >= 'a' && (byte | 32) <= 'z') || byte == '_';
}

static const uint8_t *skip_ascii_blanks(const uint8_t *at, const uint8_t *end) {
    while (at < end && is_ascii_blank(*at)) at++;
    return at;
}

static bool operand_starts(const uint8_t *at, const uint8_t *end) {
    int currency = currency_length(at, end);
    if (currency) at = skip_ascii_blanks(at + currency, end);
    return has_byte(at, end, '(') || literal_starts(at, end);
}

static int bold_length(const uint8_t *at, const uint8_t *end) {
    return has_byte(at, end, '*') && has_byte(at + 1, end, '*') ? 2 : 0;
}

/* The length of the operator at `at`. ** is taken for bold type, and x multiplies only before a number. */
static int operator_length(const uint8_t *at, const uint8_t *end) {
    if (bold_length(at, end)) return 0;
    if (has_byte(at, end, 'x') || has_byte(at, end, 'X')) return operand_starts(skip_ascii_blanks(at + 1, end), end);
    if (has_byte(at, end, '+') || has_byte(at, end, '^')) return 1;
    int length = minus_length(at, end);
    if (!length) length = times_length(at, end);
    return length ? length : divide_length(at, end);
}

static const uint8_t *skip_word(const uint8_t *at, const uint8_t *end) {
    while (at < end && is_word_byte(*at)) at++;
    return at;
}

/* The length of what may be an operator too, and joins as one: a LaTeX command, such as \times, or a dash, U+2013. */
static int unread_operator_length(const uint8_t *at, const uint8_t *end) {
    bool is_command = has_byte(at, end, '\\') && at + 1 < end && is_word_byte(at[1]);
    return is_command ? 2 : wide_sign_length(at, end, 0xE2, 0x80, 0x93);
}

/* ----------------------------------------------------------------------------------------------------- chains ---- */

/* What the bytes just read mean for a number that follows. */
typedef enum {
    FREE,    /* nothing */
    TOUCHES, /* they are joined if the number follows at once: x2, 1,5 */
    JOINS    /* they are joined, blanks between or not: 2 3, + 3, \times 3 */
} bond;

typedef struct {
    qrft_cursor cursor;
    const uint8_t *start;
    bool is_joined; /* to what stands before it */
    bool has_equals;
    int64_t num_operators;
    int depth;
    struct {
        const uint8_t *inside;
        int64_t num_operators; /* of the chain, before the bracket */
    } open[QRFT_MAX_DEPTH];
} chain;

/* The open brackets are left as they are: clearing their kilobyte would take longer than reading most chains. */
static void begin_chain(chain *c, qrft_cursor text, bool is_joined) {
    c->cursor = text;
    c->start = text.at;
    c->is_joined = is_joined;
    c->has_equals = false;
    c->num_operators = c->depth = 0;
}

static void skip(chain *c) {
    c->cursor.at = skip_ascii_blanks(c->cursor.at, c->cursor.end);
}

/* An operand with the brackets that open before it. False when there is none; the bond tells what came last. */
static bool read_operand(chain *c, bool may_be_negative, bond *last) {
    for (;; may_be_negative = true) {
        skip(c);
        if (may_be_negative && take(&c->cursor, minus_length(c->cursor.at, c->cursor.end))) *last = JOINS;
        skip(c);
        if (!operand_starts(c->cursor.at, c->cursor.end)) return false;
        take(&c->cursor, currency_length(c->cursor.at, c->cursor.end));
        skip(c);
        if (!has_byte(c->cursor.at, c->cursor.end, '(')) break;
        if (c->depth == QRFT_MAX_DEPTH) return false;
        c->cursor.at++;
        c->open[c->depth].inside = c->cursor.at;
        c->open[c->depth++].num_operators = c->num_operators;
        *last = FREE;
    }
    c->cursor.at = literal_read(c->cursor.at, c->cursor.end).end;
    return true;
}

static void take_suffix(chain *c) {
    if (take_byte(&c->cursor, '%')) return;
    if (!operand_starts(c->cursor.at, c->cursor.end)) take(&c->cursor, currency_length(c->cursor.at, c->cursor.end));
}

/* Signs after an operand and the brackets that close; returns where the operand ends. */
static const uint8_t *close_operand(chain *c) {
    for (;;) {
        take_suffix(c);
        const uint8_t *end = c->cursor.at;
        skip(c);
        if (c->depth == 0 || !take_byte(&c->cursor, ')')) return end;
        c->depth--;
    }
}

/* = inside a bracket: the chain began after it, as in (2 + 3 = 5). */
static void take_equals(chain *c) {
    if (c->depth > 0) {
        c->start = c->open[c->depth - 1].inside;
        c->num_operators -= c->open[c->depth - 1].num_operators;
        c->depth = 0;
        c->is_joined = false;
    }
    c->has_equals = true;
}

/*
 * Reads the chain that begins at the cursor, where an operand starts, and stops at what does not belong to it. Returns
 * where it ends, or NULL when it is no equation. `last` is then the bond to what follows.
 */
static const uint8_t *read_chain(chain *c, bond *last) {
    bool may_be_negative = false;
    for (;;) {
        if (!read_operand(c, may_be_negative, last)) return NULL;
        const uint8_t *end = close_operand(c);
        bool is_times = has_byte(c->cursor.at, c->cursor.end, 'x') || has_byte(c->cursor.at, c->cursor.end, 'X');
        if (take_byte(&c->cursor, '=')) {
            take_equals(c);
            *last = FREE;
        } else if (take(&c->cursor, operator_length(c->cursor.at, c->cursor.end))) {
            c->num_operators++;
            *last = JOINS;
        } else {
            c->cursor.at = end;
            *last = JOINS;
            return c->depth == 0 && !c->is_joined && c->has_equals && c->num_operators > 0 ? end : NULL;
        }
        may_be_negative = !is_times; /* 2x - 3 is no product */
    }
}

/* Whether what follows an operand joins it: 2 of 1 + 1 = 2 + y, of 1 + 1 = 2,5, and of 1 + 1 = 2 <<1+1=2>>. */
static bool is_joined_after(const uint8_t *at, const uint8_t *end, bool mark_follows) {
    if (at < end && (*at == '(' || is_word_byte(*at))) return true; /* 2(3), 2y */
    if (at < end && (*at == '.' || *at == ',' || *at == ':') && literal_starts(at + 1, end)) return true;
    at = skip_ascii_blanks(at, end);
    if (at == end) return mark_follows;
    return literal_starts(at, end) || operator_length(at, end) > 0 || unread_operator_length(at, end) > 0;
}

/* -------------------------------------------------------------------------------------------------- a stretch ---- */

/* The beginning of an item: the first thing of its line, and a blank after it. */
static bool is_bullet(const uint8_t *at, const uint8_t *end) {
    return (*at == '-' || *at == '*' || *at == '+') && at + 1 < end && is_ascii_blank(at[1]);
}

/* Moves over what begins no operand; returns the bond to what follows. */
static bond pass_over(qrft_cursor *text, bool is_first_of_line, bond before) {
    const uint8_t *at = text->at, *end = text->end;
    int length = operator_length(at, end);
    text->at = at + 1;
    if (length > 0) {
        text->at = at + length;
        return is_first_of_line && is_bullet(at, end) ? FREE : JOINS;
    }
    if (is_word_byte(*at)) {
        text->at = skip_word(at, end);
        return TOUCHES;
    }
    length = unread_operator_length(at, end);
    if (length > 0) {
        text->at = skip_word(at + length, end);
        return JOINS;
    }
    if (bold_length(at, end)) text->at = at + 2;
    if (*at == ')') return TOUCHES;
    return before == JOINS && (*at == '.' || *at == ',' || *at == ':') ? TOUCHES : FREE;
}

/* The first = with something behind it, as in every equation, or NULL; "48/2 = " before a marked one has none. */
static const uint8_t *find_equals(qrft_cursor text) {
    while (text.at < text.end && (text.at = memchr(text.at, '=', (size_t)(text.end - text.at)))) {
        const uint8_t *after = skip_ascii_blanks(text.at + 1, text.end);
        after = skip_ascii_blanks(after + currency_length(after, text.end), text.end);
        if (after < text.end) return text.at;
        text.at++;
    }
    return NULL;
}

/* Moves to the beginning of the first line that may hold an equation; false when there is none. None goes beyond one.
 */
static bool skip_lines(qrft_cursor *text) {
    const uint8_t *at = find_equals(*text);
    if (!at) return false;
    while (at > text->at && (!is_space(at[-1]) || is_ascii_blank(at[-1]))) at--;
    text->at = at;
    return true;
}

void running_text_check(qrft_equations *list, qrft_cursor text, bool is_first_of_line, bool mark_follows,
                        const qrft_options *options) {
    const uint8_t *end = text.end;
    bond before = FREE;
    const uint8_t *start = text.at;
    if (!skip_lines(&text)) return; /* most of any text */
    is_first_of_line |= text.at > start;
    while (text.at < end) {
        if (is_word_byte(*text.at) && (*text.at | 32) != 'x') { /* most of any text: the short way of pass_over */
            text.at = skip_word(text.at, end);
            before = TOUCHES;
            is_first_of_line = false;
            continue;
        }
        if (is_space(*text.at)) {
            bool is_line = !is_ascii_blank(*text.at++);
            is_first_of_line |= is_line;
            if (is_line || before == TOUCHES) before = FREE;
            if (is_line && !skip_lines(&text)) return;
            continue;
        }
        if (operand_starts(text.at, end)) {
            chain c;
            begin_chain(&c, text, before != FREE);
            const uint8_t *stop = read_chain(&c, &before);
            text.at = c.cursor.at;
            if (stop && !is_joined_after(stop, end, mark_follows)) {
                equations_add(list, c.start, stop, equation_check(c.start, stop), options);
            }
        } else {
            before = pass_over(&text, is_first_of_line, before);
        }
        is_first_of_line = false;
    }
}
