/* AVX2 and FMA, products in fp32 */

#define ISA avx2
#define ELEMS_ARE_FLOATS 1
#include "avx2_vectors.h"

enum { FP32 = 1 };

INLINE vec round_to_elem(vec values) { return values; }

#include "fp32.h"
