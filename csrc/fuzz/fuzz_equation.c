/* libFuzzer: the short way for plain equations says what the parser says. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "equation/check.h"
#include "equation/plain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *text = malloc(size ? size : 1); /* its own size, so that ASan sees a read outside it */
    assert(text);
    memcpy(text, data, size);
    enum qrft_equation_status status;
    const uint8_t *mark = equation_skip_plain(text, text + size, &status);
    if (mark) assert(equation_check(text, mark) == status);
    equation_check(text, text + size);
    free(text);
    return 0;
}
