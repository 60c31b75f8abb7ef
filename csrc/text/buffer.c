#include <stdlib.h>

#include "text/buffer.h"

/* A cache line, and the widest vector. */
#define ALIGNMENT 64

void *buffer_reserve(qrft_buffer *buffer, size_t count, size_t item_size) {
    size_t needed;
    if (__builtin_mul_overflow(count, item_size, &needed)) return NULL;
    if (buffer->memory && needed <= buffer->capacity) return buffer->memory;
    buffer_free(buffer);
    size_t capacity;
    if (__builtin_add_overflow(needed, ALIGNMENT, &capacity)) return NULL;
    capacity -= capacity % ALIGNMENT; /* never 0 */
    buffer->memory = aligned_alloc(ALIGNMENT, capacity);
    buffer->capacity = buffer->memory ? capacity : 0;
    return buffer->memory;
}

void buffer_free(qrft_buffer *buffer) {
    free(buffer->memory);
    *buffer = (qrft_buffer){0};
}
