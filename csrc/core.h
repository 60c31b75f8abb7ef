/* What the files of the core share. Not installed, not for callers: those include qrft.h. */
#ifndef QRFT_CORE_H
#define QRFT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qrft.h"

#ifndef __SIZEOF_INT128__
#error "The core computes in 128-bit integers: compile for a 64-bit processor, with GCC or Clang."
#endif

/* __extension__ because 128-bit integers are not in ISO C; GCC and Clang both have them. */
__extension__ typedef __int128 i128;
__extension__ typedef unsigned __int128 u128;

/* ------------------------------------------------------------------------------------------------ characters ---- */

/* A range of bytes being read; at == end means that nothing is left. Nothing ever reads *end. */
typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} qrft_cursor;

static inline bool is_digit(uint8_t byte) {
    return byte >= '0' && byte <= '9';
}

/* The six white-space bytes of ASCII, whatever the locale says. */
static inline bool is_space(uint8_t byte) {
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static inline bool has_digit(const uint8_t *at, const uint8_t *end) {
    return at < end && is_digit(*at);
}

static inline bool has_byte(const uint8_t *at, const uint8_t *end, uint8_t byte) {
    return at < end && *at == byte;
}

static inline const uint8_t *skip_space(const uint8_t *at, const uint8_t *end) {
    while (at < end && is_space(*at)) at++;
    return at;
}

/* Over what was found at the cursor, of a length that is 0 when there is nothing; returns whether there was. */
static inline bool take(qrft_cursor *cursor, int length) {
    cursor->at += length;
    return length > 0;
}

static inline bool take_byte(qrft_cursor *cursor, uint8_t byte) {
    return take(cursor, has_byte(cursor->at, cursor->end, byte));
}

/* Whether these bytes stand at `at`; third is 0 for a sign of two bytes. */
static inline int wide_sign_length(const uint8_t *at, const uint8_t *end, uint8_t first, uint8_t second,
                                   uint8_t third) {
    int length = third ? 3 : 2;
    if (end - at < length || at[0] != first || at[1] != second) return 0;
    return third == 0 || at[2] == third ? length : 0;
}

/* The lengths in bytes of the sign, currency or operator at `at`; 0 when there is none. */
static inline int minus_length(const uint8_t *at, const uint8_t *end) {
    return has_byte(at, end, '-') ? 1 : wide_sign_length(at, end, 0xE2, 0x88, 0x92); /* U+2212 */
}

static inline int currency_length(const uint8_t *at, const uint8_t *end) {
    if (at >= end) return 0;
    if (*at < 0x80) return *at == '$';
    if (wide_sign_length(at, end, 0xC2, 0xA3, 0) || wide_sign_length(at, end, 0xC2, 0xA5, 0)) return 2; /* U+00A3, A5 */
    return wide_sign_length(at, end, 0xE2, 0x82, 0xAC); /* U+20AC, the euro */
}

static inline int cross_length(const uint8_t *at, const uint8_t *end) {
    return wide_sign_length(at, end, 0xC3, 0x97, 0); /* U+00D7, the times sign */
}

static inline int obelus_length(const uint8_t *at, const uint8_t *end) {
    return wide_sign_length(at, end, 0xC3, 0xB7, 0); /* U+00F7, the divide sign */
}

static inline int times_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '*') || has_byte(at, end, 'x') || has_byte(at, end, 'X')) return 1;
    return cross_length(at, end);
}

static inline int divide_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '/')) return has_byte(at + 1, end, '/') ? 2 : 1;
    return obelus_length(at, end);
}

/* ------------------------------------------------------------------------------------------- exact arithmetic ---- */

/*
 * A rational in lowest terms, d > 0, |n| < 2^127, d < 2^127. The operations return false where the result, or a
 * step that docs/semantics.md names, leaves these bounds; *result is then undefined.
 */
typedef struct {
    i128 n;
    i128 d;
} qrft_rational;

qrft_rational rational_make(u128 n, u128 d); /* n / d, reduced; n < 2^127, 0 < d < 2^127 */
bool rational_add(qrft_rational a, qrft_rational b, qrft_rational *result);
bool rational_subtract(qrft_rational a, qrft_rational b, qrft_rational *result);
bool rational_multiply(qrft_rational a, qrft_rational b, qrft_rational *result);
bool rational_divide(qrft_rational a, qrft_rational b, qrft_rational *result); /* b != 0 */
bool rational_power(qrft_rational base, i128 exponent, qrft_rational *result); /* base != 0 or exponent >= 0; 0^0 = 1 */

static inline bool rational_equal(qrft_rational a, qrft_rational b) {
    return a.n == b.n && a.d == b.d;
}

static inline u128 magnitude(i128 value) {
    return value < 0 ? (u128)0 - (u128)value : (u128)value;
}

/* ---------------------------------------------------------------------------------------------------- numbers ---- */

/* 10^38 is the largest power of ten below 2^127. */
#define QRFT_MAX_PLACES 38

/* 10^exponent for 0 <= exponent <= QRFT_MAX_PLACES. */
u128 power_of_ten(int exponent);

/* An unsigned decimal literal, such as 1,234.50. */
typedef struct {
    const uint8_t *end;
    qrft_rational value; /* undefined when too_big */
    int64_t places;      /* digits shown after the point, here 2 */
    uint8_t last_digit;  /* the last digit shown, as a character */
    bool too_big;
} qrft_literal;

/* Whether a literal begins at `at`: a digit, or a point and a digit. */
bool literal_starts(const uint8_t *at, const uint8_t *end);

/* Reads the literal at `at`, where literal_starts holds. */
qrft_literal literal_read(const uint8_t *at, const uint8_t *end);

/* The length of the thousands separator at `at`, 0 when there is none. Three digits need not follow. */
int separator_length(const uint8_t *at, const uint8_t *end);

/* ---------------------------------------------------------------------------------------------- kernels, a row ---- */

typedef struct {
    const uint8_t *start; /* NULL for QRFT_ANSWER_NO_MARKER */
    const uint8_t *end;
    enum qrft_answer_status status;
    qrft_rational value; /* set when status is QRFT_ANSWER_OK */
} qrft_answer;

qrft_answer answer_find(const uint8_t *text, const uint8_t *end, const qrft_options *options);
/* As if the text followed a marker. */
qrft_answer answer_read(const uint8_t *text, const uint8_t *end, const qrft_options *options);

/* Judges the text between << and >>. */
enum qrft_equation_status equation_check(const uint8_t *text, const uint8_t *end);

/* Where a plain equation, begun at `at`, ends with >>, and its status; NULL when it is not plain or not sure. */
const uint8_t *equation_skip_plain(const uint8_t *at, const uint8_t *end, enum qrft_equation_status *status);

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
/* Adds the bytes without white space, and a line feed. */
void hash_equation(qrft_hash *hash, const uint8_t *at, const uint8_t *end);
/* The same for bytes without white space; up to `limit` the memory may be read. */
void hash_plain_equation(qrft_hash *hash, const uint8_t *at, const uint8_t *end, const uint8_t *limit);
/* The same as hash_equation after the operands of + and * have been put in order; `status` is the equation's. */
void hash_sorted_equation(qrft_hash *hash, const uint8_t *at, const uint8_t *end, enum qrft_equation_status status);
/* Adds the bytes as they are. */
void hash_bytes(qrft_hash *hash, const uint8_t *at, ptrdiff_t length);
void hash_end(qrft_hash *hash, uint8_t key[16]);
/* The first word of the whole text's hash. */
uint64_t hash_first_word(qrft_cursor text);

/* The equations of a text: how many, the first one's trouble, and the hash of their list, not yet ended. */
typedef struct {
    int32_t count;
    enum qrft_equation_status status;
    qrft_hash hash;
} qrft_equations;

void equations_check(qrft_equations *list, const uint8_t *text, const uint8_t *end, const qrft_options *options);

/* Adds one, judged already, with the key that the options ask for. */
void equations_add(qrft_equations *list, const uint8_t *at, const uint8_t *end, enum qrft_equation_status status,
                   const qrft_options *options);

/*
 * Adds the equations of a stretch of running text, which lies before, between or after the marked ones.
 * is_first_of_line: its beginning is that of a line; mark_follows: a marked equation stands directly after it.
 */
void running_text_check(qrft_equations *list, qrft_cursor stretch, bool is_first_of_line, bool mark_follows,
                        const qrft_options *options);

/* The first << at or after `at`, or the end. */
const uint8_t *find_opening(const uint8_t *at, const uint8_t *end);

/* Mode "paper". The value of an answer is a double: its bits as n, and -2^127, which no exact value has, as d. */
qrft_answer paper_answer_find(const uint8_t *text, const uint8_t *end);
qrft_answer paper_answer_read(const uint8_t *text, const uint8_t *end);
/* Adds to an empty list. */
void paper_equations_check(qrft_equations *list, const uint8_t *text, const uint8_t *end);

/* ---------------------------------------------------------------------------------------------------- columns ---- */

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

/*
 * Calls work(context, first, last) on ranges of at most `grain` items that together cover 0 .. num_items-1, from up
 * to num_threads threads. work returns false when there is no memory; the ranges not begun are then left out.
 * Returns QRFT_DONE or QRFT_NO_MEMORY.
 */
typedef bool (*qrft_work)(void *context, int64_t first, int64_t last);
int parallel_run(qrft_work work, void *context, int64_t num_items, int64_t grain, int num_threads);

/* ------------------------------------------------------------------------------------------------------ paths ---- */

/*
 * Memory that is used again from group to group and only grows, to exactly what is asked: nothing is copied then, so a
 * group that needs more pays for no more than its own.
 */
typedef struct {
    void *memory;
    size_t capacity;
} qrft_buffer;

/* Room for count items of item_size bytes, aligned to 64; the content is undefined. NULL when there is no memory. */
void *buffer_reserve(qrft_buffer *buffer, size_t count, size_t item_size);
void buffer_free(qrft_buffer *buffer);

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

/* The working memory of distances. */
typedef struct {
    qrft_buffer masks; /* a 64-bit mask a symbol, all zero between calls */
    size_t num_masks;
    qrft_buffer steps;
} qrft_distancer;

/* Makes room for symbols below num_symbols, in paths of at most max_length. False when there is no memory. */
bool distancer_begin(qrft_distancer *distancer, uint32_t num_symbols, int64_t max_length);
void distancer_free(qrft_distancer *distancer);

/* The Levenshtein distance in O(length a * length b / 64). */
int64_t distancer_distance(qrft_distancer *distancer, qrft_path a, qrft_path b);

/* ------------------------------------------------------------------------------------------------------ lanes ---- */

/*
 * Up to eight paths, to all of which the distances of a text are computed at once: eight lanes of 64 bits are one
 * vector of AVX-512, two of AVX2, four of SSE2 and NEON.
 */
#define QRFT_LANES 8

typedef struct {
    uint64_t *masks; /* [word][symbol][lane]; word 0 holds the last 64 symbols of each path, its bit 63 the last one */
    uint64_t *state; /* [word][2][lane] */
    uint32_t num_symbols;
    int num_used;                /* lanes 0 .. num_used - 1 hold a path */
    qrft_path paths[QRFT_LANES]; /* length 0 where unused */
    int64_t num_words;           /* of the longest path, at least 1 */
    int64_t shortest, longest;   /* lengths of the paths in use */
} qrft_lanes;

/* The words of paths up to that length. */
static inline int64_t lanes_num_words(int64_t max_length) {
    return max_length > 64 ? (max_length + 63) / 64 : 1;
}

/* Starts without paths. The masks must be all zero; they and the state are aligned to 64 bytes. */
void lanes_begin(qrft_lanes *lanes, uint64_t *masks, uint64_t *state, uint32_t num_symbols);

/* Puts the path, whose symbols must stay where they are, into the first unused lane. */
void lanes_add(qrft_lanes *lanes, qrft_path path);

/* Takes all paths out; the masks are all zero again. */
void lanes_clear(qrft_lanes *lanes);

/* The kinds of vectors that the code is compiled for, and the best one of this processor. All give the same numbers. */
enum lanes_kind { LANES_PORTABLE, LANES_AVX2, LANES_AVX512, NUM_LANES_KINDS };
bool lanes_has(enum lanes_kind kind);
enum lanes_kind lanes_best(void);

/*
 * Distances from the text to the path of each lane in use. Only what can lie on a way of at most `bound` edits is
 * looked at: a distance up to `bound` is exact, a larger one may be too large, never too small.
 */
void lanes_distances(const qrft_lanes *lanes, enum lanes_kind kind, qrft_path text, int64_t bound,
                     int64_t distances[QRFT_LANES]);

/* --------------------------------------------------------------------------------------------------- farthest ---- */

/* An eligible row of a group; its entry is the number of its key, counted in order of first appearance. */
typedef struct {
    int64_t row;
    int64_t entry;
    qrft_path path; /* set by farthest_choose, as is lane */
    int lane;
} qrft_member;

/* A key of the group with the member chosen for it, which is the first one to begin with. */
typedef struct {
    const uint8_t *key;
    const qrft_member *kept;
    uint64_t rank;     /* of the one kept, for choices that look at one row alone */
    int64_t first_row; /* of its members */
} qrft_entry;

typedef struct {
    const qrft_texts *texts;
    qrft_member *members; /* in the order in which they count */
    qrft_entry *entries;
    int64_t num_members, num_entries;
    int64_t max_cells; /* as in qrft_selection */
} qrft_group;

/* The working memory of the choice by distance. */
typedef struct {
    qrft_buffer symbols, masks, state, distances;
    size_t num_zero; /* bytes at the start of the masks that are zero between groups */
    qrft_alphabet alphabet;
    qrft_distancer distancer;
} qrft_farthest;

/* Chooses entries[k].kept by the paper's rule. False when there is no memory. */
bool farthest_choose(qrft_farthest *farthest, qrft_group *group);
void farthest_free(qrft_farthest *farthest);

#endif
