/* Reads an answer at a place where one should stand. */
#ifndef QRFT_ANSWER_READ_H
#define QRFT_ANSWER_READ_H

#include <stdbool.h>
#include <stdint.h>

#include "answer/answer.h"

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

/* What stands at `at` instead of an answer: the rest of its line, or the content of its box. */
qrft_answer answer_missing(const uint8_t *at, const uint8_t *end);

#endif
