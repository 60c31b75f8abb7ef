/*
 * The answers of mode "paper". The value of one is a double: its bits as n, and -2^127, which no exact value has, as d.
 */
#ifndef QRFT_ANSWER_PAPER_H
#define QRFT_ANSWER_PAPER_H

#include "answer/answer.h"

/* The first "#### " and number of a solution. QRFT_ANSWER_UNDECIDED: only Python can read the number. */
qrft_answer paper_answer_find(const uint8_t *text, const uint8_t *end);

/* A gold answer: the text is read as if it followed "#### ". */
qrft_answer paper_answer_read(const uint8_t *text, const uint8_t *end);

#endif
