/* Memory that a thread uses again and again. */
#ifndef QRFT_TEXT_BUFFER_H
#define QRFT_TEXT_BUFFER_H

#include <stddef.h>

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

#endif
