/* The blocks of a GPT-2 and their gradients, for training.
 *
 * PyTorch's operations are calls of a matrix library between passes over memory; a small model's spend half of their time
 * around the products. Here a few rows at a time go through all that happens to a row while they are in the cache, a product
 * ends with what is done to its result, and nothing is held but what the other direction needs. Products are of bfloat16;
 * norms, softmax and the residual stream are in fp32.
 */

#include "gemm.h"

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

#ifdef SUPPORTED

typedef struct {
  const Block *block;
  const Activations *at;
  const Gradients *to;
  char *shared; /* what the stages of a backward pass hand on */
} Job;

static size_t rows_of(const Block *b) { return (size_t)b->sequences * (size_t)b->length; }

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

/* ---- attention ---- */

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

static void attend(const void *given, int first, int last, char *own) {
  const Job *job = given;
  const Block *b = job->block;
  const Activations *at = job->at;
  const int length = b->length, size = b->width / b->heads, stride = 3 * b->width;
  const float scale = 1.0f / sqrtf((float)size);
  pair *keys = (pair *)own, *values = keys + length * size / 2;
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
              (Result){.to = scores, .stride = length});
      for (int i = 0; i < TILE; i++)
        log_sums[row + i] = softmax(scores + i * length, row + i + 1, seen, scale, probabilities + i * length);
      by_rows(probabilities, length, TILE, values, seen / 2, length / 2, size, TO_BF16,
              (Result){.to = at->attended + (start + row) * b->width + head * size, .stride = b->width});
    }
  }
}

/* The gradients of queries, keys and values, for that of what was attended to */
static void before_heads(const void *given, int first, int last, char *own) {
  const Job *job = given;
  const Block *b = job->block;
  const Activations *at = job->at;
  Stages s;
  stage(b, job->shared, &s);
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
    const bf16 *attended = at->attended + start * width + head * size, *gradient = s.of_attended + start * width + head * size;
    const float *log_sums = at->log_sums + (ptrdiff_t)head * b->sequences * length + start;
    bf16 *of_query = s.of_heads + start * stride + head * size;
    transpose(query + width, stride, length, size, keys);
    transpose(query + 2 * width, stride, length, size, values);
    interleave(query + width, stride, length, size, key_pairs, 0, length / 2);
    memset(of_keys, 0, sizeof(float) * 4 * (size_t)held);
    for (int chunk = 0; chunk < length; chunk += CHUNK) {
      const int rows = length - chunk < CHUNK ? length - chunk : CHUNK, all = chunk + rows;
      for (int row = chunk; row < all; row += TILE) {
        const int seen = (row / PANEL + 1) * PANEL;
        by_rows(query + (ptrdiff_t)row * stride, stride, TILE, keys, size / 2, size / 2, seen, TO_FLOATS,
                (Result){.to = scores, .stride = length});
        by_rows(gradient + (ptrdiff_t)row * width, width, TILE, values, size / 2, size / 2, seen, TO_FLOATS,
                (Result){.to = of_chances, .stride = length});
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
                (Result){.to = of_query + (ptrdiff_t)row * stride, .stride = stride});
      }
      interleave(chances, length, rows, all, chance_pairs, 0, rows / 2);
      interleave(of_scores, length, rows, all, score_pairs, 0, rows / 2);
      interleave(query + (ptrdiff_t)chunk * stride, stride, rows, size, query_pairs, 0, rows / 2);
      interleave(gradient + (ptrdiff_t)chunk * width, width, rows, size, attended_pairs, 0, rows / 2);
      by_columns(score_pairs, 0, all, query_pairs, rows / 2, size, TO_SUM,
                 (Result){.to = of_keys, .stride = size, .with = of_keys});
      by_columns(chance_pairs, 0, all, attended_pairs, rows / 2, size, TO_SUM,
                 (Result){.to = of_values, .stride = size, .with = of_values});
    }
    for (int row = 0; row < length; row++) {
      narrow(of_keys + (ptrdiff_t)row * size, (size_t)size, of_query + (ptrdiff_t)row * stride + width);
      narrow(of_values + (ptrdiff_t)row * size, (size_t)size, of_query + (ptrdiff_t)row * stride + 2 * width);
    }
  }
}

/* ---- the block ---- */

/* bytes of one thread's own scratch: a chunk of rows twice in width and twice in four times that, or attention's */
static size_t own_scratch(const Block *b) {
  size_t chunk = CHUNK * (size_t)b->width * (2 * 2 + 2 * 8), attention = attention_scratch(b);
  return ((chunk > attention ? chunk : attention) + 127) / 64 * 64;
}

INLINE int chunk_end(int row, int last) { return last - row < CHUNK ? last : row + CHUNK; }

static void to_heads(const void *given, int first, int last, char *own) {
  const Job *job = given;
  const Block *b = job->block;
  const int width = b->width;
  bf16 *normalised = (bf16 *)own;
  first *= TILE, last *= TILE;
  for (int row = first, end; row < last; row = end) {
    end = chunk_end(row, last);
    const ptrdiff_t start = (ptrdiff_t)row * width;
    normalise(job->at->x + start, end - row, width, b->ln_1_weight, b->ln_1_bias, b->epsilon, normalised);
    by_rows(normalised, width, end - row, b->attn, width / 2, width / 2, 3 * width, TO_BF16,
            (Result){.to = job->at->heads + 3 * start, .stride = 3 * width, .bias = b->attn_bias});
  }
}

static void from_attended(const void *given, int first, int last, char *own) {
  const Job *job = given;
  const Block *b = job->block;
  const Activations *at = job->at;
  const int width = b->width;
  bf16 *normalised = (bf16 *)own, *active = normalised + CHUNK * width;
  first *= TILE, last *= TILE;
  for (int row = first, end; row < last; row = end) {
    end = chunk_end(row, last);
    const int rows = end - row;
    const ptrdiff_t start = (ptrdiff_t)row * width;
    by_rows(at->attended + start, width, rows, b->attn_proj, width / 2, width / 2, width, TO_SUM,
            (Result){.to = at->middle + start, .stride = width, .bias = b->attn_proj_bias, .with = at->x + start});
    normalise(at->middle + start, rows, width, b->ln_2_weight, b->ln_2_bias, b->epsilon, normalised);
    bf16 *inner = at->inner + 4 * start;
    by_rows(normalised, width, rows, b->fc, width / 2, width / 2, 4 * width, TO_ACTIVATION,
            (Result){.to = inner, .stride = 4 * width, .bias = b->fc_bias, .also = active, .tanh = b->tanh});
    by_rows(active, 4 * width, rows, b->mlp_proj, 2 * width, 2 * width, width, TO_SUM,
            (Result){.to = at->y + start, .stride = width, .bias = b->mlp_proj_bias, .with = at->middle + start});
  }
}

static void before_mlp(const void *given, int first, int last, char *own) {
  const Job *job = given;
  const Block *b = job->block;
  const Activations *at = job->at;
  const int width = b->width, pairs = (int)(rows_of(b) / 2);
  Stages s;
  stage(b, job->shared, &s);
  bf16 *narrow_one = (bf16 *)own, *normalised = narrow_one + CHUNK * width;
  bf16 *of_inner = normalised + CHUNK * width, *active = of_inner + 4 * CHUNK * width;
  first *= TILE, last *= TILE;
  for (int row = first, end; row < last; row = end) {
    end = chunk_end(row, last);
    const int rows = end - row;
    const ptrdiff_t start = (ptrdiff_t)row * width;
    narrow(job->to->y + start, (size_t)(rows * width), narrow_one);
    interleave(narrow_one, width, rows, width, s.of_y, row, pairs);
    const bf16 *inner = at->inner + 4 * start;
    by_rows(narrow_one, width, rows, transposed_of(b->mlp_proj, width, 4 * width), width / 2, width / 2, 4 * width,
            TO_BEFORE_GELU, (Result){.to = of_inner, .stride = 4 * width, .with = inner, .also = active, .tanh = b->tanh});
    interleave(active, 4 * width, rows, 4 * width, s.active, row, pairs);
    interleave(of_inner, 4 * width, rows, 4 * width, s.of_inner, row, pairs);
    by_rows(of_inner, 4 * width, rows, transposed_of(b->fc, width, 4 * width), 2 * width, 2 * width, width, TO_FLOATS,
            (Result){.to = s.of_norm_2 + start, .stride = width});
    normalise(at->middle + start, rows, width, b->ln_2_weight, b->ln_2_bias, b->epsilon, normalised);
    interleave(normalised, width, rows, width, s.norm_2, row, pairs);
    before_norm(at->middle + start, s.of_norm_2 + start, job->to->y + start, rows, width, b->ln_2_weight, b->epsilon,
                s.units_2 + start, s.of_middle + start);
    narrow(s.of_middle + start, (size_t)(rows * width), narrow_one);
    interleave(narrow_one, width, rows, width, s.of_middle_pairs, row, pairs);
    interleave(at->attended + start, width, rows, width, s.attended, row, pairs);
    by_rows(narrow_one, width, rows, transposed_of(b->attn_proj, width, width), width / 2, width / 2, width, TO_BF16,
            (Result){.to = s.of_attended + start, .stride = width});
  }
}

static void before_block(const void *given, int first, int last, char *own) {
  const Job *job = given;
  const Block *b = job->block;
  const int width = b->width, pairs = (int)(rows_of(b) / 2);
  Stages s;
  stage(b, job->shared, &s);
  bf16 *normalised = (bf16 *)own;
  first *= TILE, last *= TILE;
  for (int row = first, end; row < last; row = end) {
    end = chunk_end(row, last);
    const int rows = end - row;
    const ptrdiff_t start = (ptrdiff_t)row * width;
    interleave(s.of_heads + 3 * start, 3 * width, rows, 3 * width, s.of_heads_pairs, row, pairs);
    by_rows(s.of_heads + 3 * start, 3 * width, rows, transposed_of(b->attn, width, 3 * width), 3 * width / 2,
            3 * width / 2, width, TO_FLOATS, (Result){.to = s.of_norm_1 + start, .stride = width});
    normalise(job->at->x + start, rows, width, b->ln_1_weight, b->ln_1_bias, b->epsilon, normalised);
    interleave(normalised, width, rows, width, s.norm_1, row, pairs);
    before_norm(job->at->x + start, s.of_norm_1 + start, s.of_middle + start, rows, width, b->ln_1_weight, b->epsilon,
                s.units_1 + start, job->to->x + start);
  }
}

/* A unit is 32 rows of a weight's gradient by `width` columns, of which all weights have 12 * width / 32 */
static void weights(const void *given, int first, int last, char *own) {
  const Job *job = given;
  const Block *b = job->block;
  (void)own;
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
                 (Result){.to = all[i].to + part * width, .stride = all[i].parts * width});
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
static void vectors(const void *given, int first, int last, char *own) {
  const Job *job = given;
  const Block *b = job->block;
  (void)own;
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

/* Writes all of `at` but x. */
void forward(const Block *b, const Activations *at, char *scratch) {
  const Job job = {b, at, NULL, NULL};
  const int tiles = (int)(rows_of(b) / TILE);
  char *own = aligned(scratch);
  deal(to_heads, &job, tiles, b->threads, own, own_scratch(b));
  deal(attend, &job, b->sequences * b->heads, b->threads, own, own_scratch(b));
  deal(from_attended, &job, tiles, b->threads, own, own_scratch(b));
}

/* Writes all of `to` but y. */
void backward(const Block *b, const Activations *at, const Gradients *to, char *scratch) {
  Stages s;
  const Job job = {b, at, to, aligned(scratch)};
  const int tiles = (int)(rows_of(b) / TILE), panels = b->width / PANEL;
  char *own = job.shared + stage(b, job.shared, &s);
  deal(before_mlp, &job, tiles, b->threads, own, own_scratch(b));
  deal(before_heads, &job, b->sequences * b->heads, b->threads, own, own_scratch(b));
  deal(before_block, &job, tiles, b->threads, own, own_scratch(b));
  deal(weights, &job, 12 * panels, b->threads, own, 0);
  deal(vectors, &job, panels, b->threads, own, 0);
}

#endif
