/* LaTeX commands, and boxes. */
#ifndef QRFT_ANSWER_LATEX_H
#define QRFT_ANSWER_LATEX_H

#include <stdint.h>

/* The length of the LaTeX command at `at`, if it is one of `names`, which spaces separate; else 0. */
int command_length(const uint8_t *at, const uint8_t *end, const char *names);

/* Where the content of the \boxed{ or \fbox{ at `at` begins, or NULL; blanks before the brace are allowed. */
const uint8_t *box_content(const uint8_t *at, const uint8_t *end);

#endif
