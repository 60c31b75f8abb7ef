/* Reads an answer at a place where one should stand. */
#ifndef QRFT_ANSWER_READ_H
#define QRFT_ANSWER_READ_H

#include "answer/answer.h"
#include "answer/opening.h"

/* Looks for an answer at `at` in the text. */
qrft_opening opening_read(const uint8_t *text, const uint8_t *at, const uint8_t *end);

/* The same for a text that is an answer and nothing else. is_math: LaTeX math stands there, even if nothing opens it.
 */
qrft_opening opening_read_whole(const uint8_t *text, const uint8_t *end, bool is_math);

/* Reads the answer that an opening of a kind other than QRFT_NOTHING found. */
qrft_answer opening_answer(const qrft_opening *opening, const uint8_t *end);

/* What stands at `at` instead of an answer: the rest of its line, or the content of its box. */
qrft_answer answer_missing(const uint8_t *at, const uint8_t *end);

#endif
