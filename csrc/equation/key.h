/* The text of an equation with the operands of + and * in order, so that 3+2=5 and 2+3=5 have one key. */
#ifndef QRFT_EQUATION_KEY_H
#define QRFT_EQUATION_KEY_H

#include "qrft.h"
#include "text/hash.h"

/* Adds an equation of that status to a list's hash, as hash_line does, after its operands have been put in order. */
void key_add_sorted(qrft_hash *hash, const uint8_t *at, const uint8_t *end, enum qrft_equation_status status);

#endif
