/* What follows a number, and whether the number is the whole answer. */
#ifndef QRFT_ANSWER_FOLLOW_H
#define QRFT_ANSWER_FOLLOW_H

#include "answer/answer.h"
#include "answer/opening.h"

/* Whether the number from o->at to `at` is the answer: QRFT_ANSWER_OK, _EXPRESSION or _NOT_A_NUMBER. */
enum qrft_answer_status what_follows(const qrft_opening *o, const uint8_t *at, const uint8_t *end);

/* Where that ends of which the number from `start` to `at` is only the head: "1.2.3", "1_000", "5h30". NULL: it is all.
 */
const uint8_t *number_tail(const uint8_t *start, const uint8_t *at, const uint8_t *end);

/* Whether the number from `start` to `at` is the head of an expression, with nothing between: "2^5", "2√3", "3.33...".
 */
bool number_is_head(const uint8_t *start, const uint8_t *at, const uint8_t *end);

/* Where the parts in math end that `at`, the end of the first, is joined to: "and $5$". `at` itself without any. */
const uint8_t *end_of_math_parts(const uint8_t *text, const uint8_t *at, const uint8_t *end);

/* White space and blanks; a line break only within math. */
const uint8_t *skip_gap(const uint8_t *at, const uint8_t *end, bool is_math);

#endif
