/* The texts of a column in Arrow's layout. */
#ifndef QRFT_TEXT_COLUMN_H
#define QRFT_TEXT_COLUMN_H

#include "qrft.h"
#include "text/chars.h"

static inline int64_t text_offset(const qrft_texts *texts, int64_t index) {
    return texts->offsets64 ? texts->offsets64[index] : (int64_t)texts->offsets32[index];
}

/* An empty text may come with bytes == NULL, and NULL + 0 is undefined in C; so it gets an address of its own. */
static inline qrft_cursor text_at(const qrft_texts *texts, int64_t index) {
    static const uint8_t nothing[1] = {0};
    int64_t start = text_offset(texts, index);
    int64_t end = text_offset(texts, index + 1);
    if (start == end) return (qrft_cursor){nothing, nothing};
    return (qrft_cursor){texts->bytes + start, texts->bytes + end};
}

#endif
