#include <string.h>

#include "answer/chars.h"
#include "answer/latex.h"

int command_length(const uint8_t *at, const uint8_t *end, const char *names) {
    if (!has_byte(at, end, '\\') || !has_letter(at + 1, end)) return 0;
    at++;
    while (*names) {
        size_t length = strcspn(names, " ");
        bool is_here = (size_t)(end - at) >= length && memcmp(at, names, length) == 0;
        if (is_here && !has_letter(at + length, end)) return (int)length + 1;
        names += length;
        names += *names == ' ';
    }
    return 0;
}

const uint8_t *box_content(const uint8_t *at, const uint8_t *end) {
    int name = command_length(at, end, "boxed fbox");
    if (name == 0) return NULL;
    const uint8_t *brace = skip_blanks(at + name, end);
    return has_byte(brace, end, '{') ? brace + 1 : NULL;
}
