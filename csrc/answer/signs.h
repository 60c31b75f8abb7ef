/* Signs beyond ASCII that are numbers, such as ½, or that a number goes on in, such as the ² of 5². */
#ifndef QRFT_ANSWER_SIGNS_H
#define QRFT_ANSWER_SIGNS_H

#include <stdbool.h>
#include <stdint.h>

/* A character beyond ASCII, as UTF-8 writes it. */
typedef struct {
    uint32_t code; /* 0 where none stands */
    int length;    /* in bytes */
} qrft_sign;

qrft_sign sign_at(const uint8_t *at, const uint8_t *end);

/* Whether it is a fraction, such as ½ or ⅔, and which. */
bool sign_is_fraction(uint32_t code, int *numerator, int *denominator);

/* The digit that it raises, or -1: 2 for ². */
int sign_superscript(uint32_t code);

/* Whether it makes an expression of the number before it: ², ₂, √, ∞, π. */
bool sign_makes_expression(uint32_t code);

/* Whether it is a digit of another script, a fraction, or a mark over the number before it, as for 0.3̅. */
bool sign_is_numeric(uint32_t code);

/* Whether it joins two numbers: ±, ·, ≤, ~ and their like. */
bool sign_is_operator(uint32_t code);

#endif
