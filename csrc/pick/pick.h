/* Picks a token of each row of logits. */
#ifndef QRFT_PICK_PICK_H
#define QRFT_PICK_PICK_H

#include "qrft.h"
#include "text/cpu.h"

/* Does what qrft_tokens_pick does, with the vectors of a kind that cpu_has. */
int tokens_pick(enum vector_kind kind, const qrft_logits *logits, const qrft_picking *picking,
                const qrft_streams *streams, int num_threads, void *scratch, int32_t *tokens, double *logprobs);

#endif
