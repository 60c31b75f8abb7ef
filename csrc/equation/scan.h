/* The pass over a text: finds its equations, judges each, and hashes their list. */
#ifndef QRFT_EQUATION_SCAN_H
#define QRFT_EQUATION_SCAN_H

#include <stdbool.h>

#include "equation/list.h"

/*
 * Fills the list with the equations of a text, by the options. Returns whether the text has traces. The caller says
 * where equations are kept.
 */
bool equations_check(qrft_equations *list, const uint8_t *text, const uint8_t *end, const qrft_options *options);

/* Fills the list with all equations of a stretch without traces, those of running text among them. */
void equations_find_all(qrft_equations *list, qrft_cursor stretch);

#endif
