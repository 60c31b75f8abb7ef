#include <string.h>

#include "select/alphabet.h"

/* ------------------------------------------------------------------------------------------------------ UTF-8 ---- */

#define NUM_ASCII 128

/* Beyond the last code point: bytes that are no part of valid UTF-8. */
#define INVALID_BYTE 0x110000u

_Static_assert(INVALID_BYTE + 0xFF == QRFT_MAX_PAGES * QRFT_PAGE - 1, "every point has a page");

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

#define PAGE_BYTES (QRFT_PAGE * sizeof(uint32_t))

int64_t count_wide_bytes(qrft_cursor text) {
    int64_t count = 0;
    for (; text.at < text.end; text.at++) count += *text.at >> 7;
    return count;
}

bool alphabet_begin(qrft_alphabet *alphabet, int64_t num_wide_bytes) {
    if (alphabet->num_pages > 0) memset(alphabet->pages_of, 0, sizeof alphabet->pages_of);
    alphabet->num_pages = 0;
    alphabet->num_symbols = NUM_ASCII;
    if (num_wide_bytes == 0) return true;
    /* A code point beyond ASCII costs two bytes or, invalid, one; those are all on one page. */
    size_t most = (size_t)num_wide_bytes / 2 + 1;
    if (most > QRFT_MAX_PAGES) most = QRFT_MAX_PAGES;
    return buffer_reserve(&alphabet->pages, most, PAGE_BYTES) != NULL;
}

void alphabet_free(qrft_alphabet *alphabet) {
    buffer_free(&alphabet->pages);
}

/* The page of the code point, an empty one if it is new. */
static uint32_t *page_at(qrft_alphabet *alphabet, uint32_t point) {
    uint16_t *number = &alphabet->pages_of[point / QRFT_PAGE];
    uint32_t *pages = alphabet->pages.memory;
    if (*number == 0) {
        memset(pages + (size_t)alphabet->num_pages * QRFT_PAGE, 0, PAGE_BYTES);
        *number = ++alphabet->num_pages;
    }
    return pages + (size_t)(*number - 1) * QRFT_PAGE;
}

static uint32_t symbol_of(qrft_alphabet *alphabet, uint32_t point) {
    if (point < NUM_ASCII) return point;
    uint32_t *symbol = page_at(alphabet, point) + point % QRFT_PAGE;
    if (*symbol == 0) *symbol = alphabet->num_symbols++;
    return *symbol;
}

int64_t alphabet_encode(qrft_alphabet *alphabet, qrft_cursor text, uint32_t *symbols) {
    int64_t length = 0;
    while (text.at < text.end) {
        symbols[length++] = symbol_of(alphabet, read_code_point(&text));
    }
    return length;
}
