/* MurmurHash3 of texts, and of the lines of an equation list. */
#ifndef QRFT_TEXT_HASH_H
#define QRFT_TEXT_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "text/chars.h"

/*
 * Bytes that wait to be mixed: the equations of nearly every solution (GSM8K's have 60 bytes of them on average) fit,
 * so they are mixed in one go.
 */
#define QRFT_HASH_PENDING 240

/* MurmurHash3 (x64, 128 bits, seed 0) of bytes that arrive in pieces. */
typedef struct {
    uint64_t h1;
    uint64_t h2;
    uint64_t mixed;                          /* how many bytes have been mixed */
    size_t filled;                           /* how many are pending */
    uint8_t pending[QRFT_HASH_PENDING + 16]; /* 16 more for the zeros at the end */
} qrft_hash;

void hash_begin(qrft_hash *hash);

/* Adds the bytes as they are. */
void hash_bytes(qrft_hash *hash, const uint8_t *at, ptrdiff_t length);

/* Adds the bytes without white space, and a line feed. */
void hash_line(qrft_hash *hash, const uint8_t *at, const uint8_t *end);

/* The same for bytes that hold no white space; the memory may be read up to `limit`, which is not before their end. */
void hash_solid_line(qrft_hash *hash, const uint8_t *at, const uint8_t *end, const uint8_t *limit);

/*
 * Adds the text in words with one space between: ASCII letters in lower case, digits, bytes from 0x80 and + - / = ^ % <
 * > make words, all else separates them. No line feed ends it, so it is never the bytes of lines. Words added later
 * stand behind a space too.
 */
void hash_words(qrft_hash *hash, const uint8_t *at, const uint8_t *end);

/* Writes the hash of all that was added; nothing may be added after it. */
void hash_end(qrft_hash *hash, uint8_t key[16]);

/* The first word of the whole text's hash. */
uint64_t hash_first_word(qrft_cursor text);

#endif
