#include "text/chars.h"
#include "text/decimal.h"

/* A decimal below 2^53 over at most 10^22 is one correctly rounded division of two exact doubles. */
#define EXACT_PLACES 22

double decimal_value(const qrft_decimal *number) {
    static const double POWERS[EXACT_PLACES + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    return (double)number->mantissa / POWERS[number->places];
}

const uint8_t *decimal_read(const uint8_t *at, const uint8_t *end, bool commas, qrft_decimal *number) {
    *number = (qrft_decimal){.exact = true, .leading_zero = has_byte(at, end, '0') && has_digit(at + 1, end)};
    for (; at < end; at++) {
        if (commas && *at == ',') continue;
        if (*at == '.' && !number->has_point) {
            number->has_point = true;
            continue;
        }
        if (!is_digit(*at)) break;
        if (number->num_digits < INT32_MAX) number->num_digits++;
        if (number->has_point && number->places < INT32_MAX) number->places++;
        if (number->mantissa <= DECIMAL_MAX_EXACT) number->mantissa = 10 * number->mantissa + (*at - '0');
    }
    number->exact = number->mantissa <= DECIMAL_MAX_EXACT && number->places <= EXACT_PLACES;
    return at;
}
