/* What the reading of an answer returns. docs/semantics.md defines every term. */
#ifndef QRFT_ANSWER_ANSWER_H
#define QRFT_ANSWER_ANSWER_H

#include <stdint.h>

#include "qrft.h"
#include "text/rational.h"

typedef struct {
    const uint8_t *start; /* NULL for QRFT_ANSWER_NO_MARKER */
    const uint8_t *end;
    enum qrft_answer_status status;
    qrft_rational value; /* set when status is QRFT_ANSWER_OK */
} qrft_answer;

#endif
