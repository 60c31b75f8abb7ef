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

int text_length(const uint8_t *at, const uint8_t *end) {
    int name = command_length(at, end, "text textbf textit textrm mathrm mathbf mbox");
    return name && has_byte(at + name, end, '{') ? name + 1 : 0;
}

bool has_command(const uint8_t *at, const uint8_t *end) {
    if (!has_byte(at, end, '\\') || !has_letter(at + 1, end)) return false;
    return !text_length(at, end) && !command_length(at, end, "circ quad qquad");
}

int degree_length(const uint8_t *at, const uint8_t *end) {
    if (!has_byte(at, end, '^')) return wide_sign_length(at, end, 0xC2, 0xB0, 0); /* U+00B0 */
    bool has_brace = has_byte(at + 1, end, '{');
    int name = command_length(at + 1 + has_brace, end, "circ");
    if (name == 0) return 0;
    if (!has_brace) return 1 + name;
    return has_byte(at + 2 + name, end, '}') ? 3 + name : 0;
}

/*
 * Whether the $ at `at` opens math: another closes it on this line, as Pandoc tells math from money. Never after a
 * backslash, where a reading begins only if the caller's marker ends in one: the $ that one search takes for escaped
 * would each begin another over the same bytes.
 */
static bool dollar_opens_math(const uint8_t *text, const uint8_t *at, const uint8_t *end) {
    if (at > text && at[-1] == '\\') return false;
    for (const uint8_t *close = at + 1; close < end && *close != '\n'; close++) {
        if (*close == '\\') {
            close++;
            if (has_byte(close, end, '\n')) return false;
        } else if (*close == '$') {
            return close[-1] != ' ' && close[-1] != '\t' && !has_digit(close + 1, end);
        }
    }
    return false;
}

int math_length(const uint8_t *text, const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '\\')) return has_byte(at + 1, end, '(') || has_byte(at + 1, end, '[') ? 2 : 0;
    if (!has_byte(at, end, '$')) return 0;
    return has_byte(at + 1, end, '$') ? 2 : dollar_opens_math(text, at, end);
}

int closer_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '}') || has_byte(at, end, '$')) return 1;
    return has_byte(at, end, '\\') && (has_byte(at + 1, end, ')') || has_byte(at + 1, end, ']')) ? 2 : 0;
}

int latex_space_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '~')) return 1;
    if (!has_byte(at, end, '\\') || end - at < 2) return 0;
    if (at[1] == ' ' || at[1] == ',' || at[1] == ';' || at[1] == ':' || at[1] == '!') return 2;
    return command_length(at, end, "quad qquad");
}

const uint8_t *end_of_line(const uint8_t *at, const uint8_t *end) {
    const uint8_t *line_end = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    return line_end ? line_end : end;
}

const uint8_t *end_of_math(const uint8_t *at, const uint8_t *end) {
    for (; at < end; at++) {
        if (*at == '$') return at + 1 + has_byte(at + 1, end, '$');
        if (*at != '\\') continue;
        if (++at == end) return NULL;
        if (*at == ')' || *at == ']') return at + 1;
    }
    return NULL;
}
