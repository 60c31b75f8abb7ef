/* LaTeX, as far as answers are written in it. The lengths are in bytes, and 0 where nothing of the kind stands. */
#ifndef QRFT_ANSWER_LATEX_H
#define QRFT_ANSWER_LATEX_H

#include <stdbool.h>
#include <stdint.h>

/* The length of the LaTeX command at `at`, if it is one of `names`, which spaces separate; else 0. */
int command_length(const uint8_t *at, const uint8_t *end, const char *names);

/* Where the content of the \boxed{ or \fbox{ at `at` begins, or NULL; blanks before the brace are allowed. */
const uint8_t *box_content(const uint8_t *at, const uint8_t *end);

/* \text{ and its like, whose content is words. */
int text_length(const uint8_t *at, const uint8_t *end);

/* Whether a command makes an expression of what it stands in: any that is not text, a degree or space. */
bool has_command(const uint8_t *at, const uint8_t *end);

/* ^\circ, ^{\circ} or the sign U+00B0. */
int degree_length(const uint8_t *at, const uint8_t *end);

/* ~, \, and the other commands that are a space. */
int latex_space_length(const uint8_t *at, const uint8_t *end);

/* What opens math: \(, \[, $$, or a $ that is no currency. */
int math_length(const uint8_t *text, const uint8_t *at, const uint8_t *end);

/* What closes math, a box or a brace. */
int closer_length(const uint8_t *at, const uint8_t *end);

/* The end of the first $, $$, \) or \], or NULL. */
const uint8_t *end_of_math(const uint8_t *at, const uint8_t *end);

const uint8_t *end_of_line(const uint8_t *at, const uint8_t *end);

#endif
