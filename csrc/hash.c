/*
 * MurmurHash3, x64, 128 bits, seed 0, after Austin Appleby's published algorithm (public domain), for input that
 * arrives in pieces: they are gathered in `pending` and mixed in blocks of 16 bytes. Not a cryptographic hash: keys
 * tell equation lists apart, they do not resist attack.
 */
#include <string.h>

#include "core.h"

static const uint64_t C1 = 0x87C37B91114253D5u;
static const uint64_t C2 = 0x4CF5AD432745937Fu;

static uint64_t rotate(uint64_t value, int bits) {
    return (value << bits) | (value >> (64 - bits));
}

/* Byte by byte, so that the key does not depend on the machine's byte order; compilers make one load of it. */
static uint64_t read64(const uint8_t *bytes) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

static void write64(uint8_t *bytes, uint64_t value) {
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(value >> (8 * i));
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

static void mix_block(qrft_hash *hash, const uint8_t *block) {
    hash->h1 ^= mix_first(read64(block));
    hash->h1 = (rotate(hash->h1, 27) + hash->h2) * 5 + 0x52DCE729;
    hash->h2 ^= mix_second(read64(block + 8));
    hash->h2 = (rotate(hash->h2, 31) + hash->h1) * 5 + 0x38495AB5;
}

/* Mixes the whole blocks that are pending and moves the rest, up to 15 bytes, to the front. */
static void mix_pending(qrft_hash *hash) {
    size_t whole = hash->filled - hash->filled % 16;
    for (size_t at = 0; at < whole; at += 16) mix_block(hash, hash->pending + at);
    memmove(hash->pending, hash->pending + whole, hash->filled - whole);
    hash->filled -= whole;
    hash->mixed += whole;
}

static void add_byte(qrft_hash *hash, uint8_t byte) {
    if (hash->filled == QRFT_HASH_PENDING) mix_pending(hash);
    hash->pending[hash->filled++] = byte;
}

void hash_bytes(qrft_hash *hash, const uint8_t *at, ptrdiff_t length) {
    for (ptrdiff_t i = 0; i < length; i++) add_byte(hash, at[i]);
}

/* White space is left out, so the line feed that ends each text can't be part of one: lists never collide. */
void hash_equation(qrft_hash *hash, const uint8_t *at, const uint8_t *end) {
    for (; at < end; at++) {
        if (!is_space(*at)) add_byte(hash, *at);
    }
    add_byte(hash, '\n');
}

/* A copy of fixed size is two instructions, one of variable size a call: so 32 bytes are copied where there are 32. */
void hash_plain_equation(qrft_hash *hash, const uint8_t *at, const uint8_t *end, const uint8_t *limit) {
    size_t length = (size_t)(end - at);
    if (length > 32 || limit - at < 32) {
        hash_equation(hash, at, end);
        return;
    }
    if (hash->filled + 33 > QRFT_HASH_PENDING) mix_pending(hash);
    memcpy(hash->pending + hash->filled, at, 32);
    hash->filled += length;
    hash->pending[hash->filled++] = '\n';
}

void hash_end(qrft_hash *hash, uint8_t key[16]) {
    uint64_t length = hash->mixed + hash->filled;
    mix_pending(hash);
    memset(hash->pending + hash->filled, 0,
           16); /* zero bytes mix to nothing, as the absent bytes of the published switch do */
    uint64_t h2 = hash->h2 ^ mix_second(read64(hash->pending + 8));
    uint64_t h1 = hash->h1 ^ mix_first(read64(hash->pending));
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
