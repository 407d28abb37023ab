/* Dropout (Srivastava et al. 2014) as a function of a sequence's seed, the layer, the place in it, the position and the column:
 * nothing is stored between the passes, and neither threads nor batches matter. */

#pragma once

#include "vector.h"

typedef struct {
  const uint64_t *seeds; /* of each sequence; NULL: no dropout */
  float rate;
  uint32_t layer;
} Dropout;

/* The places where GPT-2 drops, in each layer. ATTENTION_DROPOUT has a row for each head and position. */
typedef enum { EMBEDDING_DROPOUT, PROJECTION_DROPOUT, MLP_DROPOUT, ATTENTION_DROPOUT } DropoutPlace;

/* A row of factors: 0 or 1 / (1 - rate) */
typedef struct {
  uint32_t key;
  int32_t limit; /* dropped where the hash, as a signed number, is below */
  float factor;
} DropoutRow;

/* "lowbias32" (Wellons 2018, github.com/skeeto/hash-prospector) */
INLINE uint32_t mixed(uint32_t x) {
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}

INLINE DropoutRow dropout_row(const Dropout *d, DropoutPlace place, int sequence, int row) {
  const uint64_t seed = d->seeds[sequence];
  uint32_t key = mixed((uint32_t)seed ^ mixed((uint32_t)(seed >> 32) + 0x9e3779b9u));
  key = mixed(key + 4 * d->layer + (uint32_t)place);
  key = mixed(key + (uint32_t)row * 0x9e3779b9u);
  return (DropoutRow){key, (int32_t)(uint32_t)(int64_t)((double)d->rate * 4294967296.0 - 2147483648.0), 1.0f / (1.0f - d->rate)};
}

/* The factors of columns [column, column + LANES) */
INLINE vec dropout_factors(DropoutRow row, int column) {
  unsigneds x = ((unsigneds)lane_numbers() + (uint32_t)column) * 0x9e3779b9u + row.key;
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  x = x ^ x >> 16;
  const ints kept = (ints)x >= row.limit - (ints){0};
  return (vec)(kept & (ints)broadcast(row.factor));
}
