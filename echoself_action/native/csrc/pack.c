/* Packing of weights: once a step, for both directions and all threads. */

#include "gemm.h"

#ifdef SUPPORTED

void echoself_pack(const float *weight, int rows, int padded_rows, int columns, vnni_pair *out) {
  vnni_pair *transposed = out + (ptrdiff_t)padded_rows * columns / 2;
  for (int row = 0; row < padded_rows; row += 16)
    for (int column = 0; column < columns; column += NR) {
      bf16 block[16][NR] = {{0}};
      for (int i = 0; i < 16 && row + i < rows; i++)
        convert_to_bf16(weight + (ptrdiff_t)(row + i) * columns + column, NR, block[i]);
      pack_vnni(block[0], NR, 16, NR, out + (ptrdiff_t)column * (padded_rows / 2), row, padded_rows / 2);
      vnni_pair *panel = transposed + (ptrdiff_t)(row / NR) * NR * (columns / 2);
      pack_vnni_transposed(block[0], NR, 16, NR, panel + column / 2 * NR + row % NR);
    }
}

#endif
