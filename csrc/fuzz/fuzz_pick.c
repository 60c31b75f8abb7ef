/*
 * libFuzzer: logits of any bits under any settings. The input begins with the four settings, of any bits too; the rest
 * are the logits.
 */
#undef NDEBUG
#include "../tests/check_pick.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    qrft_picking picking;
    if (size < sizeof picking + sizeof(float)) return 0;
    memcpy(&picking, data, sizeof picking);
    picking.temperatures = NULL;
    int64_t num_vocab = (int64_t)((size - sizeof picking) / sizeof(float));
    float *values = malloc((size_t)num_vocab * sizeof *values);
    assert(values);
    memcpy(values, data + sizeof picking, (size_t)num_vocab * sizeof *values);
    check_pick(values, num_vocab, &picking, size);
    free(values);
    return 0;
}
