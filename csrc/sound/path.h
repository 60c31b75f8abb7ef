/* Follows a path: whether what leads to its answer does. docs/semantics.md says what is sound. */
#ifndef QRFT_SOUND_PATH_H
#define QRFT_SOUND_PATH_H

#include <stdbool.h>

#include "qrft.h"
#include "sound/millionths.h"
#include "text/chars.h"

#define PATH_MAX_STEPS    64
#define PATH_MAX_RESULTS  128
#define PATH_MAX_OPERANDS 32
#define PATH_MAX_VALUES   4 /* of a result */

/* What a step derives, or what running text shows behind a =. */
typedef struct {
    qrft_cursor text; /* of the equation; at is NULL for running text */
    int first_value;
    int num_values;
    bool is_derived; /* by an operation, and so to be used */
    bool is_mentioned;
    int num_copies;
    int uses; /* as an operand */
    int uses_before_copy;
    int most_at_once;
    int uses_in_step; /* of step number `step` */
    int step;
} path_result;

typedef struct {
    const qrft_known *known;
    enum qrft_soundness fault; /* the first; QRFT_SOUND: none so far */
    int num_steps;
    int num_results;
    int num_values;
    int last;            /* the result that came last */
    uint64_t counted[4]; /* the small known numbers, with those of terms */
    bool has_decimals;   /* some value has */
    path_result results[PATH_MAX_RESULTS];
    int64_t values[PATH_MAX_RESULTS * PATH_MAX_VALUES];
    uint8_t owners[PATH_MAX_RESULTS * PATH_MAX_VALUES]; /* the result that a value belongs to */
} qrft_path;

void path_begin(qrft_path *path, const qrft_known *known);

/* Notes a fault, if it is the first. */
void path_blame(qrft_path *path, enum qrft_soundness fault);

/* Counts an equation, followed or not. */
void path_count(qrft_path *path);

/* Follows an equation. is_shown: a left side of a single number is no operand, since the text derives it. */
void path_take(qrft_path *path, qrft_cursor equation, bool is_shown);

/* Whether a text ends in a =, but for the currency and the minus of the number behind it. */
bool path_ends_in_equals(qrft_cursor text);

/* Reads the running text between two equations: what it mentions is used, and what stands behind = is known. */
void path_take_text(qrft_path *path, qrft_cursor text, bool follows_mark);

/* Whether the path is sound, or why not; answer: NO_NUMBER when it is none. */
enum qrft_soundness path_status(const qrft_path *path, int64_t answer);

#endif
