/* What stands before an answer: signs, Markdown, LaTeX. */
#ifndef QRFT_ANSWER_OPENING_H
#define QRFT_ANSWER_OPENING_H

#include <stdbool.h>
#include <stdint.h>

/* It reaches up to where the answer itself begins, or where nothing of that kind does. */
typedef struct {
    enum { QRFT_NOTHING, QRFT_NUMBER, QRFT_EXPRESSION } kind;
    const uint8_t *text;             /* where the text begins */
    const uint8_t *from;             /* where the reading began */
    const uint8_t *at;               /* where it stopped: at the number, the expression, or something else */
    const uint8_t *number_start;     /* the first sign or currency, or NULL */
    const uint8_t *expression_start; /* the same, or the first thing opened in the innermost box, or NULL */
    const uint8_t *box;              /* where the content of the innermost box begins, or NULL */
    bool has_math;                   /* math was opened, by $, \( or \[ */
    bool is_math;
    bool is_whole; /* the answer is all of the text, up to its end */
    bool is_negative;
    int64_t num_open;  /* boxes, braces and math that were opened */
    int64_t num_marks; /* marks of Markdown */
} qrft_opening;

#endif
