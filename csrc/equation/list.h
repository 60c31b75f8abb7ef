/* The equation list of a text, as it grows: how many, the first one's trouble, and the hash that becomes its key. */
#ifndef QRFT_EQUATION_LIST_H
#define QRFT_EQUATION_LIST_H

#include <stdint.h>

#include "qrft.h"
#include "text/chars.h"
#include "text/hash.h"

/* An equation of a text, and its status. */
typedef struct {
    qrft_cursor text;
    enum qrft_equation_status status;
} qrft_equation;

typedef struct {
    qrft_equation *kept; /* the first of them, as they come; NULL: they are not wanted */
    int32_t max_kept;
    int32_t count;
    enum qrft_equation_status status;
    enum qrft_path_source source;
    qrft_hash hash; /* not yet ended */
} qrft_equations;

/* Starts an empty list, whose status is QRFT_EQUATION_OK. Where equations are kept is left as it is. */
void equations_begin(qrft_equations *list);

/* Counts an equation of that status, without a part in the key. */
void equations_count(qrft_equations *list, const uint8_t *at, const uint8_t *end, enum qrft_equation_status status);

/* Adds one, judged already, with the key that the options ask for. */
void equations_add(qrft_equations *list, const uint8_t *at, const uint8_t *end, enum qrft_equation_status status,
                   const qrft_options *options);

#endif
