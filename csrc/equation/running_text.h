/* Equations in running text, such as 12 + 5 = 17. */
#ifndef QRFT_EQUATION_RUNNING_TEXT_H
#define QRFT_EQUATION_RUNNING_TEXT_H

#include <stdbool.h>

#include "equation/list.h"
#include "text/chars.h"

/*
 * Adds the equations of a stretch of running text, which lies before, between or after the marked ones.
 * is_first_of_line: its beginning is that of a line; mark_follows: a marked equation stands directly after it.
 */
void running_text_check(qrft_equations *list, qrft_cursor stretch, bool is_first_of_line, bool mark_follows,
                        const qrft_options *options);

#endif
