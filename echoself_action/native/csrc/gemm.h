/* Products of bfloat16 matrices on a CPU with AVX-512 BF16, summed in fp32, and what is done around them.
 *
 * A `pair` is two neighbours in the direction that is summed over, the first in the lower half. A matrix is read by rows
 * (pairs lie side by side), or as `panels`: 32 columns at a time, (columns / 32, pairs, 32). An element is summed by one
 * thread in one order, however many there are.
 */

#pragma once

#include <stddef.h>
#include <stdint.h>

typedef uint16_t bf16;
typedef uint32_t pair;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) /* which takes no such pragma */
#define SUPPORTED

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))
#define SHARED static __attribute__((unused))

enum { PANEL = 32, TILE = 8, CHUNK = 64, MOST_THREADS = 64 };

/* ---- threads ---- */

/* Units from `first` to before `end` of a job, in memory of the thread's own */
typedef void Work(const void *job, int first, int end, char *own);

typedef struct {
  Work *work;
  const void *job;
  int first, end;
  char *own;
} Share;

static void *in_thread(void *given) {
  const Share *share = given;
  share->work(share->job, share->first, share->end, share->own);
  return NULL;
}

/* `work` for all of `count` units, dealt out to `many` threads; one that can't be had leaves its share to this one */
SHARED void deal(Work *work, const void *job, int count, int many, char *own, size_t own_size) {
  pthread_t threads[MOST_THREADS];
  Share shares[MOST_THREADS];
  int started[MOST_THREADS] = {0};
  if (many > MOST_THREADS) many = MOST_THREADS;
  for (int i = many - 1; i >= 0; i--) {
    const int first = (int)((int64_t)count * i / many), end = (int)((int64_t)count * (i + 1) / many);
    shares[i] = (Share){work, job, first, end, own + (size_t)i * own_size};
    started[i] = i && first < end && !pthread_create(&threads[i], NULL, in_thread, &shares[i]);
    if (!started[i]) in_thread(&shares[i]);
  }
  for (int i = 1; i < many; i++)
    if (started[i]) pthread_join(threads[i], NULL);
}

SHARED char *aligned(char *memory) { return (char *)(((uintptr_t)memory + 63) / 64 * 64); }

/* ---- elements ---- */

INLINE __m512 widened(const bf16 *from) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from)), 16));
}

INLINE void narrowed(bf16 *to, __m512 values) { _mm256_storeu_si256((void *)to, (__m256i)_mm512_cvtneps_pbh(values)); }

SHARED void narrow(const float *from, size_t count, bf16 *to) {
  for (size_t i = 0; i < count; i += 16) narrowed(to + i, _mm512_loadu_ps(from + i));
}

INLINE __m512 rounded(__m512 values) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(values)), 16));
}

INLINE float widened_one(bf16 value) {
  const uint32_t bits = (uint32_t)value << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

INLINE bf16 narrowed_one(float value) {
  return (bf16)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(value)), 0);
}

/* 16 lanes, of which those before `valid` count, where the first is `from` */
INLINE __mmask16 up_to(int valid, int from) {
  int left = valid - from;
  return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
}

INLINE __m512 bias_or_none(const float *bias, ptrdiff_t at) { return bias ? _mm512_loadu_ps(bias + at) : _mm512_setzero_ps(); }

/* to 2 units in the last place; Cephes' polynomial */
INLINE __m512 exponential(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  /* beyond these it is 0 or infinite; NaN, as second of both, stays */
  x = _mm512_max_ps(_mm512_set1_ps(-104.0f), _mm512_min_ps(_mm512_set1_ps(89.0f), x));
  __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504089f)), 8);
  x = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  x = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), x);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(p, _mm512_mul_ps(x, x), _mm512_add_ps(x, one));
  return _mm512_scalef_ps(p, n);
}

INLINE __m512 reciprocal(__m512 x) { return _mm512_div_ps(_mm512_set1_ps(1.0f), x); }

/* GELU of x, and its derivative (Hendrycks and Gimpel 2016). Exact: erfc as in Abramowitz and Stegun, 7.1.26, to 2e-7. */
INLINE __m512 gelu(__m512 x, int tanh, __m512 *derivative) {
  const __m512 one = _mm512_set1_ps(1.0f), half = _mm512_set1_ps(0.5f), square = _mm512_mul_ps(x, x);
  __m512 share, slope; /* the value is x * share, the derivative share + x * slope */
  if (tanh) {
    const __m512 cubic = _mm512_set1_ps(0.044715f), scale = _mm512_set1_ps(0.79788456080f);
    __m512 inside = _mm512_mul_ps(_mm512_mul_ps(scale, x), _mm512_fmadd_ps(cubic, square, one));
    /* (1 + tanh u) / 2 = 1 / (1 + exp(-2u)) */
    share = reciprocal(_mm512_add_ps(one, exponential(_mm512_mul_ps(inside, _mm512_set1_ps(-2.0f)))));
    __m512 of_inside = _mm512_mul_ps(scale, _mm512_fmadd_ps(_mm512_set1_ps(3 * 0.044715f), square, one));
    slope = _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(2.0f), of_inside), _mm512_mul_ps(share, _mm512_sub_ps(one, share)));
  } else {
    __m512 bell = exponential(_mm512_mul_ps(square, _mm512_set1_ps(-0.5f)));
    __m512 t = reciprocal(_mm512_fmadd_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.3275911f * 0.70710678f), one));
    __m512 p = _mm512_set1_ps(1.061405429f);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
    __m512 tail = _mm512_mul_ps(half, _mm512_mul_ps(_mm512_mul_ps(p, t), bell));
    share = _mm512_mask_sub_ps(tail, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), one, tail);
    slope = _mm512_mul_ps(bell, _mm512_set1_ps(0.39894228040f));
  }
  *derivative = _mm512_fmadd_ps(x, slope, share);
  return _mm512_mul_ps(x, share);
}

/* ---- layouts ---- */

/* `rows` (even) of (rows, columns) become the pairs from `first` / 2 on of panels of `pairs` in all */
SHARED void interleave(const bf16 *from, ptrdiff_t stride, int rows, int columns, pair *to, int first, int pairs) {
  for (int column = 0; column < columns; column += PANEL) {
    pair *panel = to + ((ptrdiff_t)(column / PANEL) * pairs + first / 2) * PANEL;
    for (int row = 0; row < rows; row += 2, panel += PANEL) {
      const bf16 *upper = from + row * stride + column, *lower = upper + stride;
      for (int half = 0; half < PANEL; half += 16) {
        __m512i one = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(upper + half)));
        __m512i two = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(lower + half)));
        _mm512_storeu_si512(panel + half, _mm512_or_si512(one, _mm512_slli_epi32(two, 16)));
      }
    }
  }
}

/* 16 rows of 16 pairs become columns */
INLINE void turn(__m512i rows[16]) {
  __m512i mixed[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    mixed[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    mixed[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(mixed[i], mixed[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(mixed[i], mixed[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(mixed[i + 1], mixed[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(mixed[i + 1], mixed[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    __m512i a = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88), b = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
    __m512i c = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
    __m512i d = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
    mixed[i] = _mm512_shuffle_i32x4(a, c, 0x88), mixed[8 + i] = _mm512_shuffle_i32x4(a, c, 0xdd);
    mixed[4 + i] = _mm512_shuffle_i32x4(b, d, 0x88), mixed[12 + i] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  memcpy(rows, mixed, sizeof mixed);
}

/* (rows, columns) become the panels of their transpose: pairs of columns */
SHARED void transpose(const bf16 *from, ptrdiff_t stride, int rows, int columns, pair *to) {
  for (int row = 0; row < rows; row += 16)
    for (int column = 0; column < columns; column += 32) {
      __m512i block[16];
      for (int i = 0; i < 16; i++) block[i] = _mm512_loadu_si512(from + (row + i) * stride + column);
      turn(block);
      pair *panel = to + ((ptrdiff_t)(row / PANEL) * (columns / 2) + column / 2) * PANEL + row % PANEL;
      for (int i = 0; i < 16; i++) _mm512_storeu_si512(panel + i * PANEL, block[i]);
    }
}

/* Of what `pack` makes of (inputs, outputs), the panels of the transpose */
INLINE const pair *transposed_of(const pair *packed, ptrdiff_t inputs, ptrdiff_t outputs) {
  return packed + inputs * outputs / 2;
}

/* ---- products ---- */

/* What is done to a product: */
typedef enum {
  TO_FLOATS,      /* nothing */
  TO_SUM,         /* the bias and `with`, fp32, are added */
  TO_BF16,        /* the bias is added */
  TO_BLEND,       /* it is multiplied with `share`, and `other_share` of `with`, bfloat16, is added */
  TO_ACTIVATION,  /* the bias is added, and `also` gets the GELU of that */
  TO_BEFORE_GELU, /* it is the gradient of a GELU: `to` gets its argument's, where `with` is the argument; `also` its value */
} Ending;

typedef struct {
  void *to;
  ptrdiff_t stride; /* of all three */
  const float *bias;
  const void *with;
  void *also;
  int tanh; /* GELU's approximation */
  float share, other_share;
} Result;

INLINE void end(__m512 sum, Ending ending, const Result *result, ptrdiff_t row, ptrdiff_t column) {
  const ptrdiff_t at = row * result->stride + column;
  __m512 derivative;
  switch (ending) {
    case TO_FLOATS: _mm512_storeu_ps((float *)result->to + at, sum); break;
    case TO_SUM:
      sum = _mm512_add_ps(sum, bias_or_none(result->bias, column));
      _mm512_storeu_ps((float *)result->to + at, _mm512_add_ps(sum, _mm512_loadu_ps((const float *)result->with + at)));
      break;
    case TO_BF16: narrowed((bf16 *)result->to + at, _mm512_add_ps(sum, bias_or_none(result->bias, column))); break;
    case TO_BLEND:
      sum = _mm512_mul_ps(sum, _mm512_set1_ps(result->share));
      sum = _mm512_fmadd_ps(widened((const bf16 *)result->with + at), _mm512_set1_ps(result->other_share), sum);
      narrowed((bf16 *)result->to + at, sum);
      break;
    case TO_ACTIVATION:
      sum = rounded(_mm512_add_ps(sum, bias_or_none(result->bias, column)));
      narrowed((bf16 *)result->to + at, sum);
      narrowed((bf16 *)result->also + at, gelu(sum, result->tanh, &derivative));
      break;
    case TO_BEFORE_GELU:
      narrowed((bf16 *)result->also + at, gelu(widened((const bf16 *)result->with + at), result->tanh, &derivative));
      narrowed((bf16 *)result->to + at, _mm512_mul_ps(sum, derivative));
      break;
  }
}

/* 8 rows by 32 columns: 16 sums in registers. The rows' pairs are `row` apart, and `step` from one pair to the next. */
INLINE void tile(const pair *left, ptrdiff_t row, ptrdiff_t step, const pair *right, int pairs, Ending ending,
                 const Result *result, int first_row, int first_column) {
  __m512 sums[TILE][2];
#pragma GCC unroll 8
  for (int i = 0; i < TILE; i++) sums[i][0] = sums[i][1] = _mm512_setzero_ps();
  for (int k = 0; k < pairs; k++) {
    __m512bh one = (__m512bh)_mm512_loadu_si512(right + k * PANEL), two = (__m512bh)_mm512_loadu_si512(right + k * PANEL + 16);
#pragma GCC unroll 8
    for (int i = 0; i < TILE; i++) {
      __m512bh both = (__m512bh)_mm512_set1_epi32((int)left[i * row + k * step]);
      sums[i][0] = _mm512_dpbf16_ps(sums[i][0], both, one);
      sums[i][1] = _mm512_dpbf16_ps(sums[i][1], both, two);
    }
  }
  float ended[TILE][PANEL]; /* so that what is done to them is there once, and not sixteen times */
#pragma GCC unroll 8
  for (int i = 0; i < TILE; i++) _mm512_storeu_ps(ended[i], sums[i][0]), _mm512_storeu_ps(ended[i] + 16, sums[i][1]);
#pragma GCC unroll 1
  for (int i = 0; i < TILE; i++)
    for (int half = 0; half < PANEL; half += 16)
      end(_mm512_loadu_ps(ended[i] + half), ending, result, first_row + i, first_column + half);
}

/* (rows, 2 * pairs) by rows times panels, which hold `held` pairs, of which the first are taken */
INLINE void by_rows(const bf16 *left, ptrdiff_t stride, int rows, const pair *right, int pairs, int held, int columns,
                    Ending ending, Result result) {
  for (int column = 0; column < columns; column += PANEL)
    for (int row = 0; row < rows; row += TILE)
      tile((const pair *)(left + row * stride), stride / 2, 1, right + (ptrdiff_t)column * held, pairs, ending, &result, row,
           column);
}

/* The transpose of panels, whose columns from `first` to `last` are the result's rows, times panels of as many pairs */
INLINE void by_columns(const pair *left, int first, int last, const pair *right, int pairs, int columns, Ending ending,
                       Result result) {
  for (int row = first; row < last; row += PANEL)
    for (int column = 0; column < columns; column += PANEL)
      for (int part = row; part < row + PANEL; part += TILE)
        tile(left + (ptrdiff_t)row * pairs + part % PANEL, 1, PANEL, right + (ptrdiff_t)column * pairs, pairs, ending, &result,
             part, column);
}

#endif
