/* The characters that only answers know, besides those of text/chars.h. */
#ifndef QRFT_ANSWER_CHARS_H
#define QRFT_ANSWER_CHARS_H

#include "text/chars.h"

static inline bool is_letter(uint8_t byte) {
    return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
}

static inline bool has_letter(const uint8_t *at, const uint8_t *end) {
    return at < end && is_letter(*at);
}

/* Marks of Markdown, which may stand around an answer. */
static inline bool has_mark(const uint8_t *at, const uint8_t *end) {
    return at < end && (*at == '*' || *at == '_' || *at == '`');
}

static inline int blank_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, ' ') || has_byte(at, end, '\t')) return 1;
    return wide_sign_length(at, end, 0xC2, 0xA0, 0); /* U+00A0, the no-break space */
}

/* Stays within the line, for an answer does not reach over a line break. */
static inline const uint8_t *skip_blanks(const uint8_t *at, const uint8_t *end) {
    for (int length; (length = blank_length(at, end));) at += length;
    return at;
}

static inline int sign_length(const uint8_t *at, const uint8_t *end) {
    return has_byte(at, end, '+') ? 1 : minus_length(at, end);
}

/* The length of a currency in an answer, where a dollar may be escaped, as LaTeX wants it. */
static inline int answer_currency_length(const uint8_t *at, const uint8_t *end) {
    return has_byte(at, end, '\\') && has_byte(at + 1, end, '$') ? 2 : currency_length(at, end);
}

#endif
