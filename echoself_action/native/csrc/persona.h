/* A persona dimension of NanEcho: y = x + share * (x + sigmoid(gate) * transform), where
 * transform = GELU(LayerNorm(x W^T + b)) W^T + b, and gate = ReLU(x W^T + b) W^T + b with half the width inside. */

#pragma once

#include "layer_norm.h"
#include "linear.h"

typedef struct {
  const Persona *persona;
  unit *in, *out, *gate_in, *gate_out; /* the packed weights */
  unit *x, *inside, *gate_inside;      /* packed inputs of the linear layers, and gradients of their outputs */
  unit *grad_in, *grad_out, *grad_gate_in, *grad_gate_out;
  float *grad_normalised, *x_hat; /* (rows, width) */
  char *scratch;
  size_t scratch_size;
} PersonaJob;

typedef struct { /* of ROW_BLOCK rows */
  elem *x, *inside, *gate_inside, *grad_out, *grad_gate_out, *grad_in, *grad_gate_in;
  float *grad_hidden, *grad_gate_hidden;
} PersonaScratch;

static PersonaScratch persona_scratch(int width, Memory *memory) {
  const size_t size = ROW_BLOCK * (size_t)round_up(width, LANES);
  PersonaScratch s;
  elem **elems[] = {&s.x, &s.inside, &s.gate_inside, &s.grad_out, &s.grad_gate_out, &s.grad_in, &s.grad_gate_in};
  for (size_t i = 0; i < sizeof elems / sizeof *elems; i++) *elems[i] = take(memory, sizeof(elem) * size);
  s.grad_hidden = take(memory, sizeof(float) * size), s.grad_gate_hidden = take(memory, sizeof(float) * size);
  return s;
}

static void plan_persona(PersonaJob *job, Memory *memory) {
  const Persona *p = job->persona;
  const int width = p->width, half = width / 2;
  Memory own = {0};
  persona_scratch(width, &own);
  job->in = take(memory, sizeof(unit) * right_size(width, width));
  job->out = take(memory, sizeof(unit) * right_size(width, width));
  const size_t in = right_size(width, half), out = right_size(half, width), larger = in > out ? in : out;
  job->gate_in = take(memory, sizeof(unit) * larger), job->gate_out = take(memory, sizeof(unit) * larger);
  if (p->grad_y) {
    const size_t size = (size_t)p->rows * (size_t)width;
    job->x = take(memory, sizeof(unit) * right_size(p->rows, width));
    job->inside = take(memory, sizeof(unit) * right_size(p->rows, width));
    job->gate_inside = take(memory, sizeof(unit) * right_size(p->rows, half));
    job->grad_in = take(memory, sizeof(unit) * left_size(p->rows, width));
    job->grad_out = take(memory, sizeof(unit) * left_size(p->rows, width));
    job->grad_gate_in = take(memory, sizeof(unit) * left_size(p->rows, half));
    job->grad_gate_out = take(memory, sizeof(unit) * left_size(p->rows, width));
    job->grad_normalised = take(memory, sizeof(float) * size), job->x_hat = take(memory, sizeof(float) * size);
  }
  job->scratch_size = own.used;
  job->scratch = take(memory, job->scratch_size * (size_t)smaller(p->threads, MAX_THREADS));
}

static size_t persona_memory(const Persona *persona) {
  PersonaJob job = {.persona = persona};
  Memory memory = {0};
  plan_persona(&job, &memory);
  return memory.used;
}

INLINE int persona_panels(int width) { return 3 * (round_up(width, NR) / NR) + round_up(width / 2, NR) / NR; }

/* An iteration packs NR outputs of a weight. */
static void pack_persona(const void *argument, int begin, int end, char *scratch) {
  const PersonaJob *job = argument;
  const PersonaTensors *w = &job->persona->weights;
  (void)scratch;
  const int width = job->persona->width, half = width / 2, panels = round_up(width, NR) / NR;
  const struct {
    const float *from;
    unit *to;
    int outputs, inputs;
  } all[4] = {
      {w->in_weight, job->in, width, width},
      {w->out_weight, job->out, width, width},
      {w->gate_out_weight, job->gate_out, width, half},
      {w->gate_in_weight, job->gate_in, half, width},
  };
  for (int iteration = begin; iteration < end; iteration++) {
    const int i = smaller(iteration / panels, 3), row = (iteration - i * panels) * NR, rows = smaller(all[i].outputs - row, NR);
    const float *from = all[i].from + (ptrdiff_t)row * all[i].inputs;
    if (job->persona->grad_y)
      pack_floats(from, all[i].inputs, rows, all[i].inputs, NR, all[i].to, row / PAIR, units_of(all[i].outputs));
    else
      pack_floats_transposed(from, all[i].inputs, rows, all[i].inputs, all[i].to, row, units_of(all[i].inputs));
  }
}

/* The inputs of the second linear layers, from the outputs of the first: GELU of the layer norm, and ReLU */
static void persona_inside(const Persona *p, int row, int rows, elem *inside, elem *gate_inside) {
  const int width = p->width, half = width / 2;
  layer_norm(p->hidden + (ptrdiff_t)row * width, rows, width, p->weights.ln_weight, p->weights.ln_bias, p->epsilon, inside);
  for (int i = 0; i < rows * width; i += LANES) {
    vec derivative;
    store_elems_n(inside + i, gelu(load_elems_n(inside + i, rows * width - i), 0, &derivative), rows * width - i);
  }
  const float *gate_hidden = p->gate_hidden + (ptrdiff_t)row * half;
  for (int i = 0; i < rows * half; i += LANES)
    store_elems_n(gate_inside + i, larger_of(load_n(gate_hidden + i, rows * half - i), zeros()), rows * half - i);
}

static void persona_rows(const void *argument, int begin, int end, char *scratch) { /* an iteration is MR rows */
  const PersonaJob *job = argument;
  const Persona *p = job->persona;
  const PersonaTensors *w = &p->weights;
  const int width = p->width, half = width / 2;
  Memory memory = {scratch, 0};
  const PersonaScratch own = persona_scratch(width, &memory);
  EACH_ROW_BLOCK(p->rows, begin, end) {
    const ptrdiff_t start = (ptrdiff_t)row * width, half_start = (ptrdiff_t)row * half;
    const elem *x = as_elems(p->x + start, (size_t)rows * (size_t)width, own.x);
    multiply(row_major(x, width, width), rows, job->in, units_of(width), width, BIAS,
             (Output){.to = p->hidden + start, .stride = width, .bias = w->in_bias});
    multiply(row_major(x, width, width), rows, job->gate_in, units_of(width), half, BIAS,
             (Output){.to = p->gate_hidden + half_start, .stride = half, .bias = w->gate_in_bias});
    persona_inside(p, row, rows, own.inside, own.gate_inside);
    multiply(row_major(own.inside, width, width), rows, job->out, units_of(width), width, BIAS,
             (Output){.to = p->transform + start, .stride = width, .bias = w->out_bias});
    multiply(row_major(own.gate_inside, half, half), rows, job->gate_out, units_of(half), width, BIAS,
             (Output){.to = p->gate + start, .stride = width, .bias = w->gate_out_bias});
    for (int i = 0, count = rows * width; i < count; i += LANES) {
      const vec in = load_n(p->x + start + i, count - i), transform = load_n(p->transform + start + i, count - i);
      const vec gate = 1.0f / (1.0f + exp_of(-load_n(p->gate + start + i, count - i)));
      store_n(p->gate + start + i, gate, count - i);
      store_n(p->y + start + i, in + p->share * multiply_add(gate, transform, in), count - i);
    }
  }
}

static void persona_rows_backward(const void *argument, int begin, int end, char *scratch) { /* an iteration is MR rows */
  const PersonaJob *job = argument;
  const Persona *p = job->persona;
  const PersonaTensors *w = &p->weights;
  const int width = p->width, half = width / 2, depth = units_of(p->rows);
  Memory memory = {scratch, 0};
  const PersonaScratch own = persona_scratch(width, &memory);
  EACH_ROW_BLOCK(p->rows, begin, end) {
    const ptrdiff_t start = (ptrdiff_t)row * width, half_start = (ptrdiff_t)row * half;
    const int first = row / PAIR, count = rows * width, half_count = rows * half;
    for (int i = 0; i < count; i += LANES) {
      const vec gradient = load_n(p->grad_y + start + i, count - i), gate = load_n(p->gate + start + i, count - i);
      const vec scaled = p->share * gradient, grad_gate = scaled * load_n(p->transform + start + i, count - i);
      store_elems_n(own.grad_out + i, scaled * gate, count - i);
      store_elems_n(own.grad_gate_out + i, grad_gate * gate * (1.0f - gate), count - i);
      store_n(p->grad_x + start + i, gradient + scaled, count - i);
    }
    multiply(row_major(own.grad_out, width, width), rows, job->out, units_of(width), width, STORE,
             (Output){.to = own.grad_hidden, .stride = width});
    multiply(row_major(own.grad_gate_out, width, width), rows, job->gate_out, units_of(width), half, STORE,
             (Output){.to = own.grad_gate_hidden, .stride = half});
    pack(own.grad_out, width, rows, width, LEFT_PANEL, job->grad_out, first, depth);
    pack(own.grad_gate_out, width, rows, width, LEFT_PANEL, job->grad_gate_out, first, depth);

    float *grad_normalised = job->grad_normalised + start;
    layer_norm(p->hidden + start, rows, width, w->ln_weight, w->ln_bias, p->epsilon, own.inside);
    for (int i = 0; i < count; i += LANES) {
      vec derivative;
      const vec activation = gelu(load_elems_n(own.inside + i, count - i), 0, &derivative);
      store_elems_n(own.inside + i, activation, count - i);
      store_n(grad_normalised + i, load_n(own.grad_hidden + i, count - i) * derivative, count - i);
    }
    layer_norm_backward(p->hidden + start, grad_normalised, NULL, rows, width, w->ln_weight, p->epsilon, job->x_hat + start,
                        own.grad_hidden);
    floats_to_elems(own.grad_hidden, (size_t)count, own.grad_in);
    for (int i = 0; i < half_count; i += LANES) {
      const vec inside = load_n(p->gate_hidden + half_start + i, half_count - i);
      store_elems_n(own.gate_inside + i, larger_of(inside, zeros()), half_count - i);
      store_elems_n(own.grad_gate_in + i, (vec)((ints)load_n(own.grad_gate_hidden + i, half_count - i) & (inside > 0.0f)),
                    half_count - i);
    }
    const Output grad_x = {.to = p->grad_x + start, .stride = width, .accumulate = 1};
    multiply(row_major(own.grad_in, width, width), rows, job->in, units_of(width), width, STORE, grad_x);
    multiply(row_major(own.grad_gate_in, half, half), rows, job->gate_in, units_of(half), width, STORE, grad_x);
    pack(own.inside, width, rows, width, NR, job->inside, first, depth);
    pack(own.gate_inside, half, rows, half, NR, job->gate_inside, first, depth);
    pack(own.grad_in, width, rows, width, LEFT_PANEL, job->grad_in, first, depth);
    pack(own.grad_gate_in, half, rows, half, LEFT_PANEL, job->grad_gate_in, first, depth);
    pack(as_elems(p->x + start, (size_t)count, own.x), width, rows, width, NR, job->x, first, depth);
  }
}

/* An iteration is a part of a weight's gradient. */
static void persona_weight_gradients(const void *argument, int begin, int end, char *scratch) {
  const PersonaJob *job = argument;
  const PersonaTensors *to = &job->persona->gradients;
  (void)scratch;
  const int width = job->persona->width, half = width / 2, depth = units_of(job->persona->rows);
  const WeightGradient all[4] = {
      {job->grad_in, job->x, to->in_weight, to->in_bias, width, width, depth},
      {job->grad_out, job->inside, to->out_weight, to->out_bias, width, width, depth},
      {job->grad_gate_out, job->gate_inside, to->gate_out_weight, to->gate_out_bias, width, half, depth},
      {job->grad_gate_in, job->x, to->gate_in_weight, to->gate_in_bias, half, width, depth},
  };
  for (int iteration = begin; iteration < end; iteration++) {
    int i = 0, part = iteration;
    for (; i < 3 && part >= linear_gradient_parts(all[i].outputs, all[i].inputs); i++) part -= linear_gradient_parts(all[i].outputs, all[i].inputs);
    weight_gradient(&all[i], part);
  }
}

static int persona_gradient_parts(int width) {
  return 2 * linear_gradient_parts(width, width) + linear_gradient_parts(width, width / 2) + linear_gradient_parts(width / 2, width);
}

static void persona_norm_gradients(const void *argument, int begin, int end, char *scratch) { /* an iteration is LANES columns */
  const PersonaJob *job = argument;
  const Persona *p = job->persona;
  (void)scratch;
  layer_norm_gradients(job->grad_normalised, job->x_hat, p->rows, p->width, begin * LANES, smaller(end * LANES, p->width),
                       p->gradients.ln_weight, p->gradients.ln_bias, 0);
}

static void persona(const Persona *p, char *memory) {
  PersonaJob job = {.persona = p};
  Memory parts = {memory, 0};
  plan_persona(&job, &parts);
  const int tiles = (p->rows + MR - 1) / MR;
#define OVER(body, count, most) echoself_parallel_for(body, &job, count, most, p->threads, job.scratch, job.scratch_size)
  OVER(pack_persona, persona_panels(p->width), 4);
  if (p->grad_y) {
    OVER(persona_rows_backward, tiles, ROW_BLOCK / MR);
    OVER(persona_weight_gradients, persona_gradient_parts(p->width), 4);
    OVER(persona_norm_gradients, round_up(p->width, LANES) / LANES, 4);
  } else
    OVER(persona_rows, tiles, ROW_BLOCK / MR);
#undef OVER
}
