/* Memory that grows and is used again, and the numbering of code points. */
#include <stdlib.h>
#include <string.h>

#include "core.h"

/* ---------------------------------------------------------------------------------------------------- buffers ---- */

/* A cache line, and the widest vector. */
#define ALIGNMENT 64

void *buffer_reserve(qrft_buffer *buffer, size_t count, size_t item_size) {
    size_t needed;
    if (__builtin_mul_overflow(count, item_size, &needed)) return NULL;
    if (buffer->memory && needed <= buffer->capacity) return buffer->memory;
    buffer_free(buffer);
    size_t capacity;
    if (__builtin_add_overflow(needed, needed / 2 + ALIGNMENT, &capacity)) return NULL;
    capacity -= capacity % ALIGNMENT;
    buffer->memory = aligned_alloc(ALIGNMENT, capacity);
    buffer->capacity = buffer->memory ? capacity : 0;
    return buffer->memory;
}

void buffer_free(qrft_buffer *buffer) {
    free(buffer->memory);
    *buffer = (qrft_buffer){0};
}

/* ------------------------------------------------------------------------------------------------------ UTF-8 ---- */

#define NUM_ASCII 128

/* Beyond the last code point: bytes that are no part of valid UTF-8. */
#define INVALID_BYTE 0x110000u

static bool continues(const uint8_t *at, int count) {
    for (int i = 1; i <= count; i++) {
        if ((at[i] & 0xC0) != 0x80) return false;
    }
    return true;
}

/* The bounds leave out overlong forms, surrogates, and what lies beyond U+10FFFF. */
static uint32_t read_long(qrft_cursor *text, int extra, uint32_t low, uint32_t high) {
    if (text->end - text->at <= extra || !continues(text->at, extra)) return INVALID_BYTE + *text->at++;
    uint32_t point = *text->at & (0x3Fu >> extra);
    for (int i = 1; i <= extra; i++) point = point << 6 | (text->at[i] & 0x3Fu);
    if (point < low || point > high || (point >= 0xD800 && point <= 0xDFFF)) return INVALID_BYTE + *text->at++;
    text->at += extra + 1;
    return point;
}

static uint32_t read_code_point(qrft_cursor *text) {
    uint8_t lead = *text->at;
    if (lead < 0x80) return *text->at++;
    if (lead >= 0xC2 && lead <= 0xDF) return read_long(text, 1, 0x80, 0x7FF);
    if (lead >= 0xE0 && lead <= 0xEF) return read_long(text, 2, 0x800, 0xFFFF);
    if (lead >= 0xF0 && lead <= 0xF4) return read_long(text, 3, 0x10000, 0x10FFFF);
    return INVALID_BYTE + *text->at++;
}

/* --------------------------------------------------------------------------------------------------- alphabet ---- */

/* A slot of the table; point 0 is ASCII and never looked up, so it marks a free one. */
typedef struct {
    uint32_t point;
    uint32_t symbol;
} slot;

int64_t count_wide_bytes(qrft_cursor text) {
    int64_t count = 0;
    for (; text.at < text.end; text.at++) count += *text.at >> 7;
    return count;
}

bool alphabet_begin(qrft_alphabet *alphabet, int64_t num_wide_bytes) {
    /* A code point beyond ASCII costs two bytes or, invalid, one of 128: the table stays at most half full. */
    size_t most = (size_t)num_wide_bytes / 2 + 128;
    size_t num_slots = 256;
    while (num_slots < 2 * most && num_slots < ((size_t)1 << 22)) num_slots *= 2; /* 1.1 million points exist */
    slot *slots = buffer_reserve(&alphabet->slots, num_slots, sizeof *slots);
    if (!slots) return false;
    memset(slots, 0, num_slots * sizeof *slots);
    alphabet->num_slots = num_slots;
    alphabet->num_symbols = NUM_ASCII;
    return true;
}

void alphabet_free(qrft_alphabet *alphabet) {
    buffer_free(&alphabet->slots);
}

static uint32_t symbol_of(qrft_alphabet *alphabet, uint32_t point) {
    if (point < NUM_ASCII) return point;
    slot *slots = alphabet->slots.memory;
    size_t index = (point * 0x9E3779B1u) & (alphabet->num_slots - 1);
    while (slots[index].point != 0 && slots[index].point != point) index = (index + 1) & (alphabet->num_slots - 1);
    if (slots[index].point == 0) slots[index] = (slot){point, alphabet->num_symbols++};
    return slots[index].symbol;
}

int64_t alphabet_encode(qrft_alphabet *alphabet, qrft_cursor text, uint32_t *symbols) {
    int64_t length = 0;
    while (text.at < text.end) {
        symbols[length++] = symbol_of(alphabet, read_code_point(&text));
    }
    return length;
}
