#include "equation/key.h"
#include "equation/list.h"

void equations_begin(qrft_equations *list) {
    list->count = 0;
    list->status = QRFT_EQUATION_OK;
    list->source = QRFT_PATH_EQUATIONS;
    hash_begin(&list->hash);
}

void equations_count(qrft_equations *list, const uint8_t *at, const uint8_t *end, enum qrft_equation_status status) {
    if (list->kept && list->count < list->max_kept) list->kept[list->count] = (qrft_equation){{at, end}, status};
    if (list->status == QRFT_EQUATION_OK) list->status = status;
    if (list->count < INT32_MAX) list->count++;
}

void equations_add(qrft_equations *list, const uint8_t *at, const uint8_t *end, enum qrft_equation_status status,
                   const qrft_options *options) {
    equations_count(list, at, end, status);
    if (options->key_order == QRFT_ORDER_COMMUTATIVE) {
        key_add_sorted(&list->hash, at, end, status);
    } else {
        hash_line(&list->hash, at, end);
    }
}
