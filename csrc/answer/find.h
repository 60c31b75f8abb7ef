/* Finds the answer of a solution, in each of the formats. */
#ifndef QRFT_ANSWER_FIND_H
#define QRFT_ANSWER_FIND_H

#include "answer/answer.h"

/* The answer of a solution, by the options. */
qrft_answer answer_find(const uint8_t *text, const uint8_t *end, const qrft_options *options);

/* The answer of a solution that may have traces: the one behind them. */
qrft_answer answer_find_behind_traces(const uint8_t *text, const uint8_t *end, const qrft_options *options);

/* A gold answer: the text is read as if it followed a marker. */
qrft_answer answer_read(const uint8_t *text, const uint8_t *end, const qrft_options *options);

#endif
