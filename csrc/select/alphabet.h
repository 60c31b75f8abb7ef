/* Texts as numbers: each code point of their UTF-8 gets one, small enough to index a table. */
#ifndef QRFT_SELECT_ALPHABET_H
#define QRFT_SELECT_ALPHABET_H

#include <stdbool.h>
#include <stdint.h>

#include "text/buffer.h"
#include "text/chars.h"

/* A text as numbers, one a code point, small enough to index a table. */
typedef struct {
    const uint32_t *symbols;
    int64_t length;
} qrft_path;

/*
 * Code points come in pages, so that only those of the scripts in use are cleared for each group. 256 is a balance: a
 * table of the pages of 8.5 KiB, and 1 KiB a page. The last page is for bytes that are no part of valid UTF-8.
 */
#define QRFT_PAGE      256
#define QRFT_MAX_PAGES (0x110000 / QRFT_PAGE + 1)

/* Gives code points their numbers: ASCII its own, the others 128, 129 ... in the order in which they come. */
typedef struct {
    qrft_buffer pages;                 /* [page][code point % QRFT_PAGE]: the number, 0 where there is none yet */
    uint16_t pages_of[QRFT_MAX_PAGES]; /* [code point / QRFT_PAGE]: its page, counted from 1; 0 where there is none */
    uint16_t num_pages;
    uint32_t num_symbols;
} qrft_alphabet;

/* How many bytes of the text are not ASCII. */
int64_t count_wide_bytes(qrft_cursor text);

/* Starts anew, for texts with that many wide bytes in all. False when there is no memory. */
bool alphabet_begin(qrft_alphabet *alphabet, int64_t num_wide_bytes);
void alphabet_free(qrft_alphabet *alphabet);

/* Writes the text's symbols, never more than it has bytes; returns how many. */
int64_t alphabet_encode(qrft_alphabet *alphabet, qrft_cursor text, uint32_t *symbols);

#endif
