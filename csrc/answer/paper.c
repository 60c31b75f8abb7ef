#include <string.h>

#include "answer/paper.h"
#include "text/chars.h"
#include "text/decimal.h"

/* A double instead of a fraction: its bits, over a denominator that no exact value has. */
static qrft_rational value_of_double(double value) {
    uint64_t bits;
    value += 0.0; /* -0.0 equals 0.0, so it must have the same bytes */
    memcpy(&bits, &value, sizeof bits);
    return (qrft_rational){(i128)bits, (i128)((u128)1 << 127)};
}

static bool is_number_byte(uint8_t byte) {
    return is_digit(byte) || byte == '.' || byte == ',';
}

/* Reads -?[0-9.,]+ at `start`, the commas taken out, as float() does. status is _NO_MARKER when it does not match. */
static qrft_answer answer_at(const uint8_t *start, const uint8_t *end) {
    qrft_answer answer = {NULL, NULL, QRFT_ANSWER_NO_MARKER, {0, 1}};
    bool negative = has_byte(start, end, '-');
    const uint8_t *first = start + negative, *stop = first;
    while (stop < end && is_number_byte(*stop)) stop++;
    if (stop == first) return answer;
    qrft_decimal number;
    bool plain = decimal_read(first, stop, true, &number) == stop && number.num_digits > 0;
    answer = (qrft_answer){start, stop, QRFT_ANSWER_NOT_A_NUMBER, {0, 1}};
    if (plain) answer.status = number.exact ? QRFT_ANSWER_OK : QRFT_ANSWER_UNDECIDED;
    if (plain && number.exact) {
        answer.value = value_of_double(negative ? -decimal_value(&number) : decimal_value(&number));
    }
    return answer;
}

qrft_answer paper_answer_find(const uint8_t *text, const uint8_t *end) {
    const uint8_t *zero = text < end ? memchr(text, 0, (size_t)(end - text)) : NULL;
    const uint8_t *at = text;
    if (zero) end = zero;
    while (end - at > 5 && (at = memchr(at, '#', (size_t)(end - at - 5)))) {
        if (memcmp(at, "#### ", 5) == 0) {
            qrft_answer answer = answer_at(at + 5, end);
            if (answer.status != QRFT_ANSWER_NO_MARKER) return answer;
        }
        at++;
    }
    return (qrft_answer){NULL, NULL, QRFT_ANSWER_NO_MARKER, {0, 1}};
}

qrft_answer paper_answer_read(const uint8_t *text, const uint8_t *end) {
    return answer_at(skip_space(text, end), end);
}
