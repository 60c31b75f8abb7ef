/* The numbers of answers: literals, fractions, mixed numbers, powers. */
#ifndef QRFT_ANSWER_NUMBER_H
#define QRFT_ANSWER_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "qrft.h"
#include "text/rational.h"

/* A number with all that belongs to it: 1/2 of "3 1/2", e5 of 1e5. */
typedef struct {
    const uint8_t *end;
    enum qrft_answer_status status; /* QRFT_ANSWER_OK, _TOO_BIG, or _NOT_A_NUMBER for a denominator of 0 */
    qrft_rational value;            /* when status is QRFT_ANSWER_OK */
} qrft_number;

bool number_starts(const uint8_t *at, const uint8_t *end);
qrft_number number_read(const uint8_t *at, const uint8_t *end); /* where number_starts holds */

#endif
