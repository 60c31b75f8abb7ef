/* The equations of mode "paper", judged as the paper's script does it: by Python's `eval` of a left side. */
#ifndef QRFT_EQUATION_PAPER_H
#define QRFT_EQUATION_PAPER_H

#include "equation/list.h"

/* Adds the equations of a text to an empty list. QRFT_EQUATION_UNDECIDED: only Python can tell. */
void paper_equations_check(qrft_equations *list, const uint8_t *text, const uint8_t *end);

#endif
