/* A short way for the equations that nearly all texts hold: small decimals joined by + - * /, one =, one decimal. */
#ifndef QRFT_EQUATION_PLAIN_H
#define QRFT_EQUATION_PLAIN_H

#include <stdint.h>

#include "qrft.h"

/* Where a plain equation, begun at `at`, ends with >>, and its status; NULL when it is not plain or not sure. */
const uint8_t *equation_skip_plain(const uint8_t *at, const uint8_t *end, enum qrft_equation_status *status);

#endif
