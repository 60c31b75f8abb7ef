/* What the files that read answers share. docs/semantics.md defines every term. */
#ifndef QRFT_ANSWER_H
#define QRFT_ANSWER_H

#include "core.h"

/* ------------------------------------------------------------------------------------------------- characters ---- */

static inline bool is_letter(uint8_t byte) {
    return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
}

static inline bool has_letter(const uint8_t *at, const uint8_t *end) {
    return at < end && is_letter(*at);
}

/* Marks of Markdown, which may stand around an answer. */
static inline bool has_mark(const uint8_t *at, const uint8_t *end) {
    return at < end && (*at == '*' || *at == '_' || *at == '`');
}

static inline int blank_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, ' ') || has_byte(at, end, '\t')) return 1;
    return wide_sign_length(at, end, 0xC2, 0xA0, 0); /* U+00A0, the no-break space */
}

/* Within a line only: an answer does not reach over a line break. */
static inline const uint8_t *skip_blanks(const uint8_t *at, const uint8_t *end) {
    for (int length; (length = blank_length(at, end));) at += length;
    return at;
}

static inline int sign_length(const uint8_t *at, const uint8_t *end) {
    return has_byte(at, end, '+') ? 1 : minus_length(at, end);
}

/* In an answer a dollar may be escaped, as LaTeX wants it. */
static inline int answer_currency_length(const uint8_t *at, const uint8_t *end) {
    return has_byte(at, end, '\\') && has_byte(at + 1, end, '$') ? 2 : currency_length(at, end);
}

/* The length of the LaTeX command at `at`, if it is one of `names`, which spaces separate; else 0. */
int command_length(const uint8_t *at, const uint8_t *end, const char *names);

/* Where the content of the \boxed{ or \fbox{ at `at` begins, or NULL; blanks before the brace are allowed. */
const uint8_t *box_content(const uint8_t *at, const uint8_t *end);

/* ---------------------------------------------------------------------------------------------------- numbers ---- */

/* A number with all that belongs to it: 1/2 of "3 1/2", e5 of 1e5. */
typedef struct {
    const uint8_t *end;
    enum qrft_answer_status status; /* QRFT_ANSWER_OK, _TOO_BIG, or _NOT_A_NUMBER for a denominator of 0 */
    qrft_rational value;            /* when status is QRFT_ANSWER_OK */
} qrft_number;

bool number_starts(const uint8_t *at, const uint8_t *end);
qrft_number number_read(const uint8_t *at, const uint8_t *end); /* where number_starts holds */

/* ---------------------------------------------------------------------------------------------------- reading ---- */

/* What stands before an answer, up to where the answer itself begins, or where nothing of that kind does. */
typedef struct {
    enum { QRFT_NOTHING, QRFT_NUMBER, QRFT_EXPRESSION } kind;
    const uint8_t *from;             /* where the reading began */
    const uint8_t *at;               /* where it stopped: at the number, the expression, or something else */
    const uint8_t *number_start;     /* the first sign or currency, or NULL */
    const uint8_t *expression_start; /* the same, or the first thing opened in the innermost box, or NULL */
    const uint8_t *box;              /* where the content of the innermost box begins, or NULL */
    bool has_math;                   /* math was opened, by $, \( or \[ */
    bool is_math;
    bool is_negative;
    int64_t num_open;  /* boxes, braces and math that were opened */
    int64_t num_marks; /* marks of Markdown */
} qrft_opening;

/* Looks for an answer at `at` in the text. is_math: LaTeX math stands there, even if nothing opens it. */
qrft_opening opening_read(const uint8_t *text, const uint8_t *at, const uint8_t *end, bool is_math);

/* Reads the answer that an opening of a kind other than QRFT_NOTHING found. */
qrft_answer opening_answer(const qrft_opening *opening, const uint8_t *end);

/* What stands at `at` in place of an answer: the rest of its line, or the content of its box. */
qrft_answer answer_missing(const uint8_t *at, const uint8_t *end);

#endif
