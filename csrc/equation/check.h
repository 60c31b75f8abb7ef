/* Judges one equation in exact fractions. */
#ifndef QRFT_EQUATION_CHECK_H
#define QRFT_EQUATION_CHECK_H

#include <stdint.h>

#include "qrft.h"

/* Judges the text between << and >>. */
enum qrft_equation_status equation_check(const uint8_t *text, const uint8_t *end);

#endif
