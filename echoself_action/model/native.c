/* The blocks of a GPT-2 and their gradients, for training in bfloat16 on a CPU with AVX-512 BF16.
 *
 * PyTorch's operations are calls of a matrix library between passes over memory; a small model's spend half of their time
 * around the products. Here a few rows at a time go through all that happens to a row while they are in the cache, a product
 * ends with what is done to its result, and no gradient or activation is held but those that the other direction needs.
 *
 * Products are of bfloat16 and summed in fp32, as are norms, softmax and the residual stream. An element is summed by one
 * thread in one order, however many there are.
 *
 * Layouts: a `pair` is two neighbours in the direction that is summed over, the first in the lower half. A matrix is read by
 * rows (pairs lie side by side), or as `panels`: 32 columns at a time, (columns / 32, pairs, 32).
 */

#include <stdint.h>
#include <stddef.h>

typedef uint16_t bf16;
typedef uint32_t pair;

typedef struct {
  int32_t sequences, length, width, heads, tanh, threads;
  float epsilon;
  const float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias; /* biases may be absent */
  const float *attn_bias, *attn_proj_bias, *fc_bias, *mlp_proj_bias;
  const pair *attn, *attn_proj, *fc, *mlp_proj; /* as `pack` makes them */
} Block;

typedef struct { /* rows = sequences * length */
  const float *x; /* (rows, width), as all where nothing is said */
  float *middle, *y;
  bf16 *heads;     /* (rows, 3 * width): queries, keys, values */
  float *log_sums; /* (heads, rows): of the scores' exponentials */
  bf16 *attended;
  bf16 *inner; /* (rows, 4 * width), before the activation */
} Activations;

typedef struct {
  const float *y;
  float *x;
  float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias;
  float *attn_bias, *attn_proj_bias, *fc_bias, *mlp_proj_bias;
  bf16 *attn, *attn_proj, *fc, *mlp_proj; /* (in, out) */
} Gradients;

/* The digest of the source that this library is of. */
const char *source(void) { return SOURCE; }

#if defined(__x86_64__) && defined(__GNUC__)

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { PANEL = 32, TILE = 8, CHUNK = 64, MOST_THREADS = 64 };

/* ---- threads ---- */

typedef struct {
  const Block *block;
  const Activations *at;
  const Gradients *to;
  char *shared, *own; /* scratch: of all threads, and of this one */
} Job;

typedef void Work(const Job *job, int first, int end);

typedef struct {
  Job job;
  Work *work;
  int first, end;
} Share;

static void *in_thread(void *given) {
  Share *share = given;
  share->work(&share->job, share->first, share->end);
  return NULL;
}

/* `work` for all of `count` units, dealt out to the block's threads; a thread that can't be had leaves its share to this one */
static void deal(Work *work, Job job, int count, size_t own_size) {
  pthread_t threads[MOST_THREADS];
  Share shares[MOST_THREADS];
  int started[MOST_THREADS] = {0};
  int many = job.block->threads < MOST_THREADS ? job.block->threads : MOST_THREADS;
  for (int i = many - 1; i >= 0; i--) {
    shares[i] = (Share){job, work, (int)((int64_t)count * i / many), (int)((int64_t)count * (i + 1) / many)};
    shares[i].job.own = job.own + i * own_size;
    started[i] = i && shares[i].first < shares[i].end && !pthread_create(&threads[i], NULL, in_thread, &shares[i]);
    if (!started[i]) in_thread(&shares[i]);
  }
  for (int i = 1; i < many; i++)
    if (started[i]) pthread_join(threads[i], NULL);
}

/* ---- elements ---- */

INLINE __m512 widened(const bf16 *from) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from)), 16));
}

INLINE void narrowed(bf16 *to, __m512 values) { _mm256_storeu_si256((void *)to, (__m256i)_mm512_cvtneps_pbh(values)); }

INLINE __m512 rounded(__m512 values) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(values)), 16));
}

INLINE __m512 bias_or_none(const float *bias, ptrdiff_t at) { return bias ? _mm512_loadu_ps(bias + at) : _mm512_setzero_ps(); }

/* to 2 units in the last place; Cephes' polynomial */
INLINE __m512 exponential(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
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
static void interleave(const bf16 *from, ptrdiff_t stride, int rows, int columns, pair *to, int first, int pairs) {
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
    __m512i c = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88), d = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
    mixed[i] = _mm512_shuffle_i32x4(a, c, 0x88), mixed[8 + i] = _mm512_shuffle_i32x4(a, c, 0xdd);
    mixed[4 + i] = _mm512_shuffle_i32x4(b, d, 0x88), mixed[12 + i] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  memcpy(rows, mixed, sizeof mixed);
}

/* (rows, columns) become the panels of their transpose: pairs of columns */
static void transpose(const bf16 *from, ptrdiff_t stride, int rows, int columns, pair *to) {
  for (int row = 0; row < rows; row += 16)
    for (int column = 0; column < columns; column += 32) {
      __m512i block[16];
      for (int i = 0; i < 16; i++) block[i] = _mm512_loadu_si512(from + (row + i) * stride + column);
      turn(block);
      pair *panel = to + ((ptrdiff_t)(row / PANEL) * (columns / 2) + column / 2) * PANEL + row % PANEL;
      for (int i = 0; i < 16; i++) _mm512_storeu_si512(panel + i * PANEL, block[i]);
    }
}

/* A weight (inputs, outputs) in fp32 as panels of bfloat16, and behind them those of its transpose. */
void pack(const float *weight, int inputs, int outputs, pair *to) {
  pair *transposed = to + (ptrdiff_t)inputs * outputs / 2;
  for (int in = 0; in < inputs; in += 16)
    for (int out = 0; out < outputs; out += 32) {
      __m512i block[16];
      for (int i = 0; i < 16; i++) {
        const float *row = weight + (ptrdiff_t)(in + i) * outputs + out;
        block[i] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + 16), _mm512_loadu_ps(row));
      }
      pair *panel = to + ((ptrdiff_t)(out / PANEL) * (inputs / 2) + in / 2) * PANEL;
      for (int i = 0; i < 16; i += 2, panel += PANEL)
        for (int half = 0; half < 2; half++) {
          __m512i one = half ? _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(block[i], 1))
                             : _mm512_cvtepu16_epi32(_mm512_castsi512_si256(block[i]));
          __m512i two = half ? _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(block[i + 1], 1))
                             : _mm512_cvtepu16_epi32(_mm512_castsi512_si256(block[i + 1]));
          _mm512_storeu_si512(panel + 16 * half, _mm512_or_si512(one, _mm512_slli_epi32(two, 16)));
        }
      turn(block);
      panel = transposed + ((ptrdiff_t)(in / PANEL) * (outputs / 2) + out / 2) * PANEL + in % PANEL;
      for (int i = 0; i < 16; i++) _mm512_storeu_si512(panel + i * PANEL, block[i]);
    }
}

INLINE const pair *turned(const pair *packed, int width, int other) { return packed + (ptrdiff_t)width * other / 2; }

/* ---- products ---- */

/* What is done to a product: */
typedef enum {
  TO_FLOATS,       /* nothing */
  TO_SUM,          /* the bias and `with`, fp32, are added */
  TO_BF16,         /* the bias is added */
  TO_ACTIVATION,   /* the bias is added, and `also` gets the GELU of that */
  TO_BEFORE_GELU,  /* it is the gradient of a GELU: `to` gets its argument's, where `with` is the argument; `also` its value */
} Ending;

typedef struct {
  void *to;
  ptrdiff_t stride; /* of all three */
  const float *bias;
  const void *with;
  void *also;
  int tanh;
} Result;

INLINE void end(__m512 sum, Ending ending, const Result *result, ptrdiff_t row, ptrdiff_t column) {
  ptrdiff_t at = row * result->stride + column;
  __m512 derivative;
  switch (ending) {
    case TO_FLOATS: _mm512_storeu_ps((float *)result->to + at, sum); break;
    case TO_SUM:
      sum = _mm512_add_ps(sum, bias_or_none(result->bias, column));
      _mm512_storeu_ps((float *)result->to + at, _mm512_add_ps(sum, _mm512_loadu_ps((const float *)result->with + at)));
      break;
    case TO_BF16: narrowed((bf16 *)result->to + at, _mm512_add_ps(sum, bias_or_none(result->bias, column))); break;
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
#pragma GCC unroll 8
  for (int i = 0; i < TILE; i++) {
    end(sums[i][0], ending, result, first_row + i, first_column);
    end(sums[i][1], ending, result, first_row + i, first_column + 16);
  }
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

/* ---- layer normalisation ---- */

INLINE void moments(const float *x, int width, float epsilon, float *mean, float *scale) {
  __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
  for (int i = 0; i < width; i += 16) sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + i));
  *mean = _mm512_reduce_add_ps(sum) / (float)width;
  for (int i = 0; i < width; i += 16) {
    __m512 off = _mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(*mean));
    squares = _mm512_fmadd_ps(off, off, squares);
  }
  *scale = 1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)width + epsilon);
}

static void normalise(const float *x, int rows, int width, const float *weight, const float *bias, float epsilon, bf16 *to) {
  for (int row = 0; row < rows; row++, x += width, to += width) {
    float mean, scale;
    moments(x, width, epsilon, &mean, &scale);
    for (int i = 0; i < width; i += 16) {
      __m512 unit = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(mean)), _mm512_set1_ps(scale));
      narrowed(to + i, _mm512_fmadd_ps(unit, _mm512_loadu_ps(weight + i), bias_or_none(bias, i)));
    }
  }
}

/* `to` = `past` + the gradient of x, for `of_result` that of what x became; `units` gets (x - mean) / deviation */
static void before_norm(const float *x, const float *of_result, const float *past, int rows, int width, const float *weight,
                        float epsilon, float *units, float *to) {
  for (int row = 0; row < rows; row++, x += width, of_result += width, past += width, units += width, to += width) {
    float mean, scale;
    moments(x, width, epsilon, &mean, &scale);
    __m512 sum = _mm512_setzero_ps(), along = _mm512_setzero_ps();
    for (int i = 0; i < width; i += 16) {
      __m512 unit = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(mean)), _mm512_set1_ps(scale));
      __m512 gradient = _mm512_mul_ps(_mm512_loadu_ps(of_result + i), _mm512_loadu_ps(weight + i));
      _mm512_storeu_ps(units + i, unit);
      sum = _mm512_add_ps(sum, gradient);
      along = _mm512_fmadd_ps(gradient, unit, along);
    }
    __m512 mean_gradient = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)width);
    __m512 mean_along = _mm512_set1_ps(_mm512_reduce_add_ps(along) / (float)width);
    for (int i = 0; i < width; i += 16) {
      __m512 gradient = _mm512_mul_ps(_mm512_loadu_ps(of_result + i), _mm512_loadu_ps(weight + i));
      gradient = _mm512_fnmadd_ps(_mm512_loadu_ps(units + i), mean_along, _mm512_sub_ps(gradient, mean_gradient));
      _mm512_storeu_ps(to + i, _mm512_fmadd_ps(gradient, _mm512_set1_ps(scale), _mm512_loadu_ps(past + i)));
    }
  }
}

static void narrow(const float *from, size_t count, bf16 *to) {
  for (size_t i = 0; i < count; i += 16) narrowed(to + i, _mm512_loadu_ps(from + i));
}

/* ---- attention ---- */

INLINE __mmask16 up_to(int valid, int from) {
  int left = valid - from;
  return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
}

/* A causal row's probabilities from its scores, of which `valid` count; those up to `count` are 0. Gives the logarithm of the
 * exponentials' sum. */
INLINE float softmax(float *scores, int valid, int count, float scale, bf16 *to) {
  const __m512 lowest = _mm512_set1_ps(-INFINITY);
  __m512 most = lowest, sum = _mm512_setzero_ps();
  for (int i = 0; i < valid; i += 16) most = _mm512_max_ps(most, _mm512_mask_loadu_ps(lowest, up_to(valid, i), scores + i));
  float top = _mm512_reduce_max_ps(most) * scale;
  for (int i = 0; i < count; i += 16) {
    __m512 less = _mm512_fmsub_ps(_mm512_loadu_ps(scores + i), _mm512_set1_ps(scale), _mm512_set1_ps(top));
    __m512 e = _mm512_maskz_mov_ps(up_to(valid, i), exponential(less));
    _mm512_storeu_ps(scores + i, e);
    sum = _mm512_add_ps(sum, e);
  }
  float total = _mm512_reduce_add_ps(sum);
  for (int i = 0; i < count; i += 16) narrowed(to + i, _mm512_mul_ps(_mm512_loadu_ps(scores + i), _mm512_set1_ps(1 / total)));
  return top + logf(total);
}

static size_t attention_scratch(const Block *b) { /* bytes for either direction */
  size_t length = (size_t)b->length, size = (size_t)(b->width / b->heads);
  return length * size * (4 * 2 + 2 * 4) + length * CHUNK * 2 * 4 + length * TILE * 4 * 2 + CHUNK * size * 2 * 2;
}

static void attend(const Job *job, int first, int last) {
  const Block *b = job->block;
  const Activations *at = job->at;
  const int length = b->length, size = b->width / b->heads, stride = 3 * b->width;
  const float scale = 1.0f / sqrtf((float)size);
  pair *keys = (pair *)job->own, *values = keys + length * size / 2;
  float *scores = (float *)(values + length * size / 2);
  bf16 *probabilities = (bf16 *)(scores + TILE * length);
  for (int unit = first; unit < last; unit++) {
    const int sequence = unit / b->heads, head = unit % b->heads;
    const ptrdiff_t start = (ptrdiff_t)sequence * length;
    const bf16 *query = at->heads + start * stride + head * size;
    float *log_sums = at->log_sums + (ptrdiff_t)head * b->sequences * length + start;
    transpose(query + b->width, stride, length, size, keys);
    interleave(query + 2 * b->width, stride, length, size, values, 0, length / 2);
    for (int row = 0; row < length; row += TILE) {
      const int seen = (row / PANEL + 1) * PANEL;
      by_rows(query + (ptrdiff_t)row * stride, stride, TILE, keys, size / 2, size / 2, seen, TO_FLOATS,
              (Result){scores, length, 0, 0, 0, 0});
      for (int i = 0; i < TILE; i++)
        log_sums[row + i] = softmax(scores + i * length, row + i + 1, seen, scale, probabilities + i * length);
      by_rows(probabilities, length, TILE, values, seen / 2, length / 2, size, TO_BF16,
              (Result){at->attended + (start + row) * b->width + head * size, b->width, 0, 0, 0, 0});
    }
  }
}

/* The gradients of queries, keys and values, (rows, 3 * width), for that of what was attended to */
static void before_attention(const Block *b, const Activations *at, const bf16 *of_attended, bf16 *to, char *own, int first,
                             int last) {
  const int length = b->length, size = b->width / b->heads, stride = 3 * b->width, width = b->width;
  const float scale = 1.0f / sqrtf((float)size);
  const int held = length * size / 2;
  pair *keys = (pair *)own, *values = keys + held, *key_pairs = values + held;
  float *of_keys = (float *)(key_pairs + held), *of_values = of_keys + 2 * held;
  float *scores = of_values + 2 * held, *of_chances = scores + TILE * length;
  bf16 *chances = (bf16 *)(of_chances + TILE * length), *of_scores = chances + CHUNK * length;
  pair *chance_pairs = (pair *)(of_scores + CHUNK * length), *score_pairs = chance_pairs + CHUNK / 2 * length;
  pair *query_pairs = score_pairs + CHUNK / 2 * length, *attended_pairs = query_pairs + CHUNK / 2 * size;
  for (int unit = first; unit < last; unit++) {
    const int sequence = unit / b->heads, head = unit % b->heads;
    const ptrdiff_t start = (ptrdiff_t)sequence * length;
    const bf16 *query = at->heads + start * stride + head * size;
    const bf16 *attended = at->attended + start * width + head * size, *gradient = of_attended + start * width + head * size;
    const float *log_sums = at->log_sums + (ptrdiff_t)head * b->sequences * length + start;
    bf16 *of_query = to + start * stride + head * size;
    transpose(query + width, stride, length, size, keys);
    transpose(query + 2 * width, stride, length, size, values);
    interleave(query + width, stride, length, size, key_pairs, 0, length / 2);
    memset(of_keys, 0, sizeof(float) * 4 * (size_t)held);
    for (int chunk = 0; chunk < length; chunk += CHUNK) {
      const int rows = length - chunk < CHUNK ? length - chunk : CHUNK, all = chunk + rows;
      for (int row = chunk; row < all; row += TILE) {
        const int seen = (row / PANEL + 1) * PANEL;
        by_rows(query + (ptrdiff_t)row * stride, stride, TILE, keys, size / 2, size / 2, seen, TO_FLOATS,
                (Result){scores, length, 0, 0, 0, 0});
        by_rows(gradient + (ptrdiff_t)row * width, width, TILE, values, size / 2, size / 2, seen, TO_FLOATS,
                (Result){of_chances, length, 0, 0, 0, 0});
        for (int i = 0; i < TILE; i++) {
          const bf16 *result = attended + (ptrdiff_t)(row + i) * width, *of_result = gradient + (ptrdiff_t)(row + i) * width;
          __m512 along = _mm512_setzero_ps();
          for (int j = 0; j < size; j += 16) along = _mm512_fmadd_ps(widened(result + j), widened(of_result + j), along);
          const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(along)), log_sum = _mm512_set1_ps(log_sums[row + i]);
          const ptrdiff_t line = (ptrdiff_t)(row - chunk + i) * length;
          for (int j = 0; j < all; j += 16) {
            const __mmask16 counts = up_to(row + i + 1, j);
            __m512 chance = _mm512_setzero_ps(), of_score = chance;
            if (counts) {
              __m512 score = _mm512_fmsub_ps(_mm512_loadu_ps(scores + i * length + j), _mm512_set1_ps(scale), log_sum);
              chance = _mm512_maskz_mov_ps(counts, exponential(score));
              of_score = _mm512_maskz_sub_ps(counts, _mm512_loadu_ps(of_chances + i * length + j), mean);
              of_score = _mm512_mul_ps(_mm512_mul_ps(of_score, chance), _mm512_set1_ps(scale));
            }
            narrowed(chances + line + j, chance);
            narrowed(of_scores + line + j, of_score);
          }
        }
        by_rows(of_scores + (ptrdiff_t)(row - chunk) * length, length, TILE, key_pairs, seen / 2, length / 2, size, TO_BF16,
                (Result){of_query + (ptrdiff_t)row * stride, stride, 0, 0, 0, 0});
      }
      interleave(chances, length, rows, all, chance_pairs, 0, rows / 2);
      interleave(of_scores, length, rows, all, score_pairs, 0, rows / 2);
      interleave(query + (ptrdiff_t)chunk * stride, stride, rows, size, query_pairs, 0, rows / 2);
      interleave(gradient + (ptrdiff_t)chunk * width, width, rows, size, attended_pairs, 0, rows / 2);
      by_columns(score_pairs, 0, all, query_pairs, rows / 2, size, TO_SUM, (Result){of_keys, size, 0, of_keys, 0, 0});
      by_columns(chance_pairs, 0, all, attended_pairs, rows / 2, size, TO_SUM, (Result){of_values, size, 0, of_values, 0, 0});
    }
    for (int row = 0; row < length; row++) {
      narrow(of_keys + (ptrdiff_t)row * size, (size_t)size, of_query + (ptrdiff_t)row * stride + width);
      narrow(of_values + (ptrdiff_t)row * size, (size_t)size, of_query + (ptrdiff_t)row * stride + 2 * width);
    }
  }
}

/* ---- the block ---- */

static size_t rows_of(const Block *b) { return (size_t)b->sequences * (size_t)b->length; }

/* bytes of one thread's own scratch: a chunk of rows twice in width and twice in four times that, or attention's */
static size_t own_scratch(const Block *b) {
  size_t chunk = CHUNK * (size_t)b->width * (2 * 2 + 2 * 8), attention = attention_scratch(b);
  return ((chunk > attention ? chunk : attention) + 127) / 64 * 64;
}

INLINE int chunk_end(int row, int last) { return last - row < CHUNK ? last : row + CHUNK; }

static void to_heads(const Job *job, int first, int last) {
  const Block *b = job->block;
  const int width = b->width;
  bf16 *normalised = (bf16 *)job->own;
  first *= TILE, last *= TILE;
  for (int row = first, end; row < last; row = end) {
    end = chunk_end(row, last);
    const ptrdiff_t start = (ptrdiff_t)row * width;
    normalise(job->at->x + start, end - row, width, b->ln_1_weight, b->ln_1_bias, b->epsilon, normalised);
    by_rows(normalised, width, end - row, b->attn, width / 2, width / 2, 3 * width, TO_BF16,
            (Result){job->at->heads + 3 * start, 3 * width, b->attn_bias, 0, 0, 0});
  }
}

static void from_attended(const Job *job, int first, int last) {
  const Block *b = job->block;
  const Activations *at = job->at;
  const int width = b->width;
  bf16 *normalised = (bf16 *)job->own, *active = normalised + CHUNK * width;
  first *= TILE, last *= TILE;
  for (int row = first, end; row < last; row = end) {
    end = chunk_end(row, last);
    const int rows = end - row;
    const ptrdiff_t start = (ptrdiff_t)row * width;
    by_rows(at->attended + start, width, rows, b->attn_proj, width / 2, width / 2, width, TO_SUM,
            (Result){at->middle + start, width, b->attn_proj_bias, at->x + start, 0, 0});
    normalise(at->middle + start, rows, width, b->ln_2_weight, b->ln_2_bias, b->epsilon, normalised);
    /* the activation lies as what it is of, of which there are all rows */
    bf16 *inner = at->inner + 4 * start;
    if (b->tanh)
      by_rows(normalised, width, rows, b->fc, width / 2, width / 2, 4 * width, TO_ACTIVATION,
              (Result){inner, 4 * width, b->fc_bias, 0, active, 1});
    else
      by_rows(normalised, width, rows, b->fc, width / 2, width / 2, 4 * width, TO_ACTIVATION,
              (Result){inner, 4 * width, b->fc_bias, 0, active, 0});
    by_rows(active, 4 * width, rows, b->mlp_proj, 2 * width, 2 * width, width, TO_SUM,
            (Result){at->y + start, width, b->mlp_proj_bias, at->middle + start, 0, 0});
  }
}

/* What the backward pass hands from one stage to the next, all of it (rows, ...) */
typedef struct {
  float *of_middle, *of_norm_2, *units_2, *of_norm_1, *units_1; /* units: what a norm makes before its weight */
  bf16 *of_attended, *of_heads;
  /* panels of pairs of rows: what weights were multiplied with, and the gradients of what came of it */
  pair *norm_1, *of_heads_pairs, *attended, *of_middle_pairs, *norm_2, *of_inner, *active, *of_y;
} Stages;

static size_t stage(const Block *b, char *shared, Stages *s) { /* gives the bytes of all */
  const size_t size = rows_of(b) * (size_t)b->width;
  char *here = shared;
#define TAKE(member, bytes) (s->member = (void *)here, here += (bytes))
  TAKE(of_middle, 4 * size), TAKE(of_norm_2, 4 * size), TAKE(units_2, 4 * size), TAKE(of_norm_1, 4 * size);
  TAKE(units_1, 4 * size), TAKE(of_attended, 2 * size), TAKE(of_heads, 6 * size), TAKE(norm_1, 2 * size);
  TAKE(of_heads_pairs, 6 * size), TAKE(attended, 2 * size), TAKE(of_middle_pairs, 2 * size), TAKE(norm_2, 2 * size);
  TAKE(of_inner, 8 * size), TAKE(active, 8 * size), TAKE(of_y, 2 * size);
#undef TAKE
  return (size_t)(here - shared);
}

static void before_mlp(const Job *job, int first, int last) {
  const Block *b = job->block;
  const Activations *at = job->at;
  const int width = b->width, pairs = (int)(rows_of(b) / 2);
  Stages s;
  stage(b, job->shared, &s);
  bf16 *narrow_one = (bf16 *)job->own, *normalised = narrow_one + CHUNK * width;
  bf16 *of_inner = normalised + CHUNK * width, *active = of_inner + 4 * CHUNK * width;
  first *= TILE, last *= TILE;
  for (int row = first, end; row < last; row = end) {
    end = chunk_end(row, last);
    const int rows = end - row;
    const ptrdiff_t start = (ptrdiff_t)row * width;
    narrow(job->to->y + start, (size_t)(rows * width), narrow_one);
    interleave(narrow_one, width, rows, width, s.of_y, row, pairs);
    const bf16 *inner = at->inner + 4 * start;
    if (b->tanh)
      by_rows(narrow_one, width, rows, turned(b->mlp_proj, width, 4 * width), width / 2, width / 2, 4 * width, TO_BEFORE_GELU,
              (Result){of_inner, 4 * width, 0, inner, active, 1});
    else
      by_rows(narrow_one, width, rows, turned(b->mlp_proj, width, 4 * width), width / 2, width / 2, 4 * width, TO_BEFORE_GELU,
              (Result){of_inner, 4 * width, 0, inner, active, 0});
    interleave(active, 4 * width, rows, 4 * width, s.active, row, pairs);
    interleave(of_inner, 4 * width, rows, 4 * width, s.of_inner, row, pairs);
    by_rows(of_inner, 4 * width, rows, turned(b->fc, width, 4 * width), 2 * width, 2 * width, width, TO_FLOATS,
            (Result){s.of_norm_2 + start, width, 0, 0, 0, 0});
    normalise(at->middle + start, rows, width, b->ln_2_weight, b->ln_2_bias, b->epsilon, normalised);
    interleave(normalised, width, rows, width, s.norm_2, row, pairs);
    before_norm(at->middle + start, s.of_norm_2 + start, job->to->y + start, rows, width, b->ln_2_weight, b->epsilon,
                s.units_2 + start, s.of_middle + start);
    narrow(s.of_middle + start, (size_t)(rows * width), narrow_one);
    interleave(narrow_one, width, rows, width, s.of_middle_pairs, row, pairs);
    interleave(at->attended + start, width, rows, width, s.attended, row, pairs);
    by_rows(narrow_one, width, rows, turned(b->attn_proj, width, width), width / 2, width / 2, width, TO_BF16,
            (Result){s.of_attended + start, width, 0, 0, 0, 0});
  }
}

static void before_heads(const Job *job, int first, int last) {
  Stages s;
  stage(job->block, job->shared, &s);
  before_attention(job->block, job->at, s.of_attended, s.of_heads, job->own, first, last);
}

static void before_block(const Job *job, int first, int last) {
  const Block *b = job->block;
  const int width = b->width, pairs = (int)(rows_of(b) / 2);
  Stages s;
  stage(b, job->shared, &s);
  bf16 *normalised = (bf16 *)job->own;
  first *= TILE, last *= TILE;
  for (int row = first, end; row < last; row = end) {
    end = chunk_end(row, last);
    const int rows = end - row;
    const ptrdiff_t start = (ptrdiff_t)row * width;
    interleave(s.of_heads + 3 * start, 3 * width, rows, 3 * width, s.of_heads_pairs, row, pairs);
    by_rows(s.of_heads + 3 * start, 3 * width, rows, turned(b->attn, width, 3 * width), 3 * width / 2, 3 * width / 2, width, TO_FLOATS,
            (Result){s.of_norm_1 + start, width, 0, 0, 0, 0});
    normalise(job->at->x + start, rows, width, b->ln_1_weight, b->ln_1_bias, b->epsilon, normalised);
    interleave(normalised, width, rows, width, s.norm_1, row, pairs);
    before_norm(job->at->x + start, s.of_norm_1 + start, s.of_middle + start, rows, width, b->ln_1_weight, b->epsilon,
                s.units_1 + start, job->to->x + start);
  }
}

/* A unit is 32 rows of a weight's gradient by `width` columns, of which all weights have 12 * width / 32 */
static void weights(const Job *job, int first, int last) {
  const Block *b = job->block;
  const int width = b->width, pairs = (int)(rows_of(b) / 2), panels = width / PANEL;
  Stages s;
  stage(b, job->shared, &s);
  const struct { const pair *left, *right; bf16 *to; int parts, rows; } all[4] = {
    {s.norm_1, s.of_heads_pairs, job->to->attn, 3, 1},
    {s.attended, s.of_middle_pairs, job->to->attn_proj, 1, 1},
    {s.norm_2, s.of_inner, job->to->fc, 4, 1},
    {s.active, s.of_y, job->to->mlp_proj, 1, 4},
  };
  for (int unit = first; unit < last; unit++)
    for (int i = 0, before = 0; i < 4; before += all[i].parts * all[i].rows * panels, i++) {
      const int here = unit - before;
      if (here < 0 || here >= all[i].parts * all[i].rows * panels) continue;
      const int part = here % all[i].parts, row = here / all[i].parts * PANEL;
      by_columns(all[i].left, row, row + PANEL, all[i].right + (ptrdiff_t)part * width * pairs, pairs, width, TO_BF16,
                 (Result){all[i].to + part * width, all[i].parts * width, 0, 0, 0, 0});
    }
}

static void column_sums(const pair *panel, int pairs, float *to) {
  __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
  for (int k = 0; k < pairs; k++)
    for (int half = 0; half < 2; half++)
      sums[half] = _mm512_dpbf16_ps(sums[half], ones, (__m512bh)_mm512_loadu_si512(panel + k * PANEL + half * 16));
  _mm512_storeu_ps(to, sums[0]), _mm512_storeu_ps(to + 16, sums[1]);
}

static void norm_sums(const float *gradients, const float *units, int rows, int width, int column, float *weight, float *bias) {
  for (int half = column; half < column + PANEL; half += 16) {
    __m512 sum = _mm512_setzero_ps(), along = sum;
    for (ptrdiff_t at = half; at < (ptrdiff_t)rows * width; at += width) {
      __m512 gradient = _mm512_loadu_ps(gradients + at);
      sum = _mm512_add_ps(sum, gradient);
      along = _mm512_fmadd_ps(gradient, _mm512_loadu_ps(units + at), along);
    }
    _mm512_storeu_ps(weight + half, along);
    if (bias) _mm512_storeu_ps(bias + half, sum);
  }
}

/* Of norms' weights and all biases; a unit is 32 columns of each width */
static void vectors(const Job *job, int first, int last) {
  const Block *b = job->block;
  const Gradients *to = job->to;
  const int width = b->width, rows = (int)rows_of(b), pairs = rows / 2;
  Stages s;
  stage(b, job->shared, &s);
  const struct { const pair *from; float *to; int parts; } biases[4] = {
    {s.of_heads_pairs, to->attn_bias, 3}, {s.of_middle_pairs, to->attn_proj_bias, 1},
    {s.of_inner, to->fc_bias, 4}, {s.of_y, to->mlp_proj_bias, 1},
  };
  for (int unit = first; unit < last; unit++) {
    const int column = unit * PANEL;
    norm_sums(s.of_norm_1, s.units_1, rows, width, column, to->ln_1_weight, to->ln_1_bias);
    norm_sums(s.of_norm_2, s.units_2, rows, width, column, to->ln_2_weight, to->ln_2_bias);
    for (int i = 0; i < 4; i++)
      for (int part = 0; biases[i].to && part < biases[i].parts; part++) {
        const int at = column + part * width;
        column_sums(biases[i].from + (ptrdiff_t)at * pairs, pairs, biases[i].to + at);
      }
  }
}

/* Bytes of scratch that `forward` and `backward` take. */
size_t forward_scratch(const Block *b) { return own_scratch(b) * (size_t)b->threads + 64; }

size_t backward_scratch(const Block *b) {
  Stages s;
  return forward_scratch(b) + stage(b, NULL, &s);
}

static char *aligned(char *scratch) { return (char *)(((uintptr_t)scratch + 63) / 64 * 64); }

/* Writes all of `at` but x. */
void forward(const Block *b, const Activations *at, char *scratch) {
  const Job job = {b, at, NULL, NULL, aligned(scratch)};
  const int tiles = (int)(rows_of(b) / TILE);
  deal(to_heads, job, tiles, own_scratch(b));
  deal(attend, job, b->sequences * b->heads, own_scratch(b));
  deal(from_attended, job, tiles, own_scratch(b));
}

/* Writes all of `to` but y. */
void backward(const Block *b, const Activations *at, const Gradients *to, char *scratch) {
  Stages s;
  char *shared = aligned(scratch);
  const Job job = {b, at, to, shared, shared + stage(b, shared, &s)};
  const int tiles = (int)(rows_of(b) / TILE), panels = b->width / PANEL;
  deal(before_mlp, job, tiles, own_scratch(b));
  deal(before_heads, job, b->sequences * b->heads, own_scratch(b));
  deal(before_block, job, tiles, own_scratch(b));
  deal(weights, job, 12 * panels, 0);
  deal(vectors, job, panels, 0);
}

#endif
