/*
 * MurmurHash3, x64, 128 bits, seed 0, after Austin Appleby's published algorithm (public domain), for input that
 * arrives in pieces: they are gathered in `pending` and mixed in blocks of 16 bytes. Not a cryptographic hash: keys
 * tell equation lists apart, they do not resist attack.
 */
#include <stdbool.h>
#include <string.h>

#include "text/hash.h"

static const uint64_t C1 = 0x87C37B91114253D5u;
static const uint64_t C2 = 0x4CF5AD432745937Fu;

static uint64_t rotate(uint64_t value, int bits) {
    return (value << bits) | (value >> (64 - bits));
}

/* Little-endian whatever the machine is, so that keys are the same everywhere. */
static uint64_t little_endian(uint64_t value) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(value);
#else
    return value;
#endif
}

static uint64_t read64(const uint8_t *bytes) {
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return little_endian(value);
}

static void write64(uint8_t *bytes, uint64_t value) {
    value = little_endian(value);
    memcpy(bytes, &value, sizeof value);
}

static uint64_t mix_first(uint64_t k1) {
    return rotate(k1 * C1, 31) * C2;
}

static uint64_t mix_second(uint64_t k2) {
    return rotate(k2 * C2, 33) * C1;
}

static uint64_t finish(uint64_t h) {
    h = (h ^ (h >> 33)) * 0xFF51AFD7ED558CCDu;
    h = (h ^ (h >> 33)) * 0xC4CEB9FE1A85EC53u;
    return h ^ (h >> 33);
}

void hash_begin(qrft_hash *hash) {
    hash->h1 = hash->h2 = hash->mixed = hash->filled = 0;
}

/* Mixes the whole blocks that are pending; returns how many bytes they were. */
static size_t mix_blocks(qrft_hash *hash) {
    size_t whole = hash->filled - hash->filled % 16;
    uint64_t h1 = hash->h1, h2 = hash->h2;
    for (size_t at = 0; at < whole; at += 16) {
        h1 ^= mix_first(read64(hash->pending + at));
        h1 = (rotate(h1, 27) + h2) * 5 + 0x52DCE729;
        h2 ^= mix_second(read64(hash->pending + at + 8));
        h2 = (rotate(h2, 31) + h1) * 5 + 0x38495AB5;
    }
    hash->h1 = h1;
    hash->h2 = h2;
    return whole;
}

/* Mixes what it can and moves the rest, up to 15 bytes, to the front. */
static void mix_pending(qrft_hash *hash) {
    size_t whole = mix_blocks(hash);
    hash->filled -= whole;
    hash->mixed += whole;
    memmove(hash->pending, hash->pending + whole, hash->filled);
}

static void add_byte(qrft_hash *hash, uint8_t byte) {
    if (hash->filled == QRFT_HASH_PENDING) mix_pending(hash);
    hash->pending[hash->filled++] = byte;
}

void hash_bytes(qrft_hash *hash, const uint8_t *at, ptrdiff_t length) {
    for (ptrdiff_t i = 0; i < length; i++) add_byte(hash, at[i]);
}

/* White space is left out, so the line feed that ends each text can't be part of one: lists never collide. */
void hash_line(qrft_hash *hash, const uint8_t *at, const uint8_t *end) {
    for (; at < end; at++) {
        if (!is_space(*at)) add_byte(hash, *at);
    }
    add_byte(hash, '\n');
}

/* A copy of fixed size is two instructions, one of variable size a call: so 32 bytes are copied where there are 32. */
void hash_solid_line(qrft_hash *hash, const uint8_t *at, const uint8_t *end, const uint8_t *limit) {
    size_t length = (size_t)(end - at);
    if (length > 32 || limit - at < 32) {
        hash_line(hash, at, end);
        return;
    }
    if (hash->filled + 33 > QRFT_HASH_PENDING) mix_pending(hash);
    memcpy(hash->pending + hash->filled, at, 32);
    hash->filled += length;
    hash->pending[hash->filled++] = '\n';
}

static bool is_of_word(uint8_t byte) {
    uint8_t letter = byte | 32;
    return (letter >= 'a' && letter <= 'z') || is_digit(byte) || byte >= 0x80 || (byte && strchr("+-/=^%<>", byte));
}

void hash_words(qrft_hash *hash, const uint8_t *at, const uint8_t *end) {
    while (at < end && !is_of_word(*at)) at++;
    for (bool is_apart = hash->mixed + hash->filled > 0; at < end; at++) {
        if (!is_of_word(*at)) {
            is_apart = true;
            continue;
        }
        if (is_apart) add_byte(hash, ' ');
        is_apart = false;
        add_byte(hash, *at >= 'A' && *at <= 'Z' ? *at | 32 : *at);
    }
}

void hash_end(qrft_hash *hash, uint8_t key[16]) {
    uint64_t length = hash->mixed + hash->filled;
    const uint8_t *rest = hash->pending + mix_blocks(hash);
    /* Zero bytes mix to nothing, as the absent bytes of the published switch do. */
    memset(hash->pending + hash->filled, 0, 16);
    uint64_t h2 = hash->h2 ^ mix_second(read64(rest + 8));
    uint64_t h1 = hash->h1 ^ mix_first(read64(rest));
    h1 ^= length;
    h2 ^= length;
    h1 += h2;
    h2 += h1;
    h1 = finish(h1);
    h2 = finish(h2);
    h1 += h2;
    h2 += h1;
    write64(key, h1);
    write64(key + 8, h2);
}

uint64_t hash_first_word(qrft_cursor text) {
    qrft_hash hash;
    uint8_t key[16];
    hash_begin(&hash);
    hash_bytes(&hash, text.at, text.end - text.at);
    hash_end(&hash, key);
    return read64(key);
}
