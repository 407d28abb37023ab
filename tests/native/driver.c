/* Runs all kernels of an instruction set on numbers from a file, where Python can't: under the emulator of another CPU.
 *
 *   driver LIBRARY INSTRUCTION_SET INPUT OUTPUT
 *
 * test_instruction_sets.py writes the input and reads the output; both are the numbers in the order of `main`. Exits with 3 if this CPU has
 * no such instructions, or the library no such kernels. */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"

static FILE *input, *output;

/* A message, and where in the input it came to that */
static void fail(const char *message) {
  fprintf(stderr, "driver: %s, at byte %ld\n", message, input ? ftell(input) : 0);
  exit(1);
}

/* The next `count` numbers, in memory of exactly their size */
static void *next(size_t size, size_t count) {
  void *numbers = malloc(size * count);
  if (!numbers || fread(numbers, size, count, input) != count) fail("the input ends early");
  return numbers;
}
static int32_t *ints(size_t count) { return next(sizeof(int32_t), count); }
static float *floats(size_t count) { return next(sizeof(float), count); }
static int64_t *longs(size_t count) { return next(sizeof(int64_t), count); }

static void write_floats(const float *numbers, size_t count) {
  if (numbers && fwrite(numbers, sizeof *numbers, count, output) != count) fail("the output can't be written");
}

/* Memory for a kernel, full of NaN */
static char *memory_of(size_t size) {
  char *memory = malloc(size);
  if (!memory) fail("no memory");
  return memset(memory, 0xff, size);
}

/* Reads the tensors of a model, or their gradients, or writes them; in the order of model/gpt2.py */
static float *tensor(float *written, size_t count) {
  if (!written) return floats(count);
  write_floats(written, count);
  return written;
}

static void each_tensor(const Gpt2 *model, int biases, Tensors *t, BlockTensors *blocks) {
  const size_t width = (size_t)model->width;
#define TENSOR(at, count) at = tensor(at, count)
#define BIAS(at, count) \
  if (biases) at = tensor(at, count)
  TENSOR(t->wte, (size_t)model->vocab_size * width);
  TENSOR(t->wpe, (size_t)model->positions * width);
  for (BlockTensors *b = blocks; b < blocks + model->layers; b++) {
    TENSOR(b->ln_1_weight, width);
    BIAS(b->ln_1_bias, width);
    TENSOR(b->attn_weight, 3 * width * width);
    BIAS(b->attn_bias, 3 * width);
    TENSOR(b->attn_proj_weight, width * width);
    BIAS(b->attn_proj_bias, width);
    TENSOR(b->ln_2_weight, width);
    BIAS(b->ln_2_bias, width);
    TENSOR(b->fc_weight, 4 * width * width);
    BIAS(b->fc_bias, 4 * width);
    TENSOR(b->mlp_proj_weight, 4 * width * width);
    BIAS(b->mlp_proj_bias, width);
  }
  TENSOR(t->ln_f_weight, width);
  BIAS(t->ln_f_bias, width);
  t->blocks = blocks;
}

static void run_model(const Kernels *kernels) {
  const int32_t *n = ints(11);
  const float *x = floats(3);
  Gpt2 model = {.layers = n[0], .heads = n[1], .width = n[2], .vocab_size = n[3], .positions = n[4], .tanh = n[5]};
  model.epsilon = x[0], model.dropout = x[1];
  const int biases = n[6];
  Batch batch = {.sequences = n[7], .length = n[8], .threads = n[9]};
  const size_t rows = (size_t)batch.sequences * (size_t)batch.length;
  batch.ids = longs(rows), batch.targets = longs(rows), batch.seeds = (const uint64_t *)longs((size_t)batch.sequences);
  BlockTensors *weights = calloc((size_t)model.layers, sizeof *weights), *to = calloc((size_t)model.layers, sizeof *to);
  each_tensor(&model, biases, &model.weights, weights);
  Gradients gradients = {.scale = x[2], .accumulate = n[10]};
  each_tensor(&model, biases, &gradients.to, to);

  float *losses = malloc(sizeof(float) * rows);
  if (kernels->losses(&model, &batch, losses, memory_of(kernels->losses_memory(&model, &batch))) != -1) fail("invalid ids");
  write_floats(losses, rows);
  char *memory = memory_of(kernels->gradients_memory(&model, &batch));
  if (kernels->gradients(&model, &batch, &gradients, losses, memory) != -1) fail("invalid ids");
  write_floats(losses, rows);
  each_tensor(&model, biases, &gradients.to, to);
  int64_t *wrong = (int64_t *)batch.targets;
  wrong[rows - 1] = model.vocab_size;
  if (kernels->losses(&model, &batch, losses, memory) != (int32_t)rows - 1) fail("an id out of the vocabulary was accepted");
}

/* As many tensors as there are sizes */
static float **tensors(const int64_t *sizes, int count) {
  float **found = malloc(sizeof *found * (size_t)count);
  for (int i = 0; i < count; i++) found[i] = floats((size_t)sizes[i]);
  return found;
}
static void write_tensors(float *const *tensors, const int64_t *sizes, int count) {
  for (int i = 0; i < count; i++) write_floats(tensors[i], (size_t)sizes[i]);
}

static void run_muon(const Kernels *kernels) {
  const int32_t *n = ints(6);
  MuonStep muon = {.count = n[0], .rows = n[1], .columns = n[2], .side_by_side = n[3], .steps = n[4], .threads = n[5]};
  const float *x = floats(4);
  muon.momentum = x[0], muon.rate = x[1], muon.decay = x[2], muon.gradient_scale = x[3];
  muon.coefficients = floats(3 * (size_t)muon.steps);
  int64_t *sizes = malloc(sizeof *sizes * (size_t)muon.count);
  for (int i = 0; i < muon.count; i++) sizes[i] = (int64_t)muon.rows * muon.columns;
  float **parameters = tensors(sizes, muon.count), **momenta = tensors(sizes, muon.count);
  muon.parameters = parameters, muon.momenta = momenta, muon.gradients = (const float *const *)tensors(sizes, muon.count);
  kernels->muon(&muon, memory_of(kernels->muon_memory(&muon)));
  write_tensors(parameters, sizes, muon.count), write_tensors(momenta, sizes, muon.count);
}

static void run_adamw(const Kernels *kernels) {
  const int32_t *n = ints(2);
  AdamWStep adamw = {.count = n[0], .threads = n[1]};
  const float *x = floats(5);
  adamw.rate = x[0], adamw.beta_1 = x[1], adamw.beta_2 = x[2], adamw.epsilon = x[3], adamw.gradient_scale = x[4];
  const size_t count = (size_t)adamw.count;
  adamw.sizes = longs(count);
  adamw.decays = floats(count), adamw.mean_corrections = floats(count), adamw.square_corrections = floats(count);
  float **parameters = tensors(adamw.sizes, adamw.count), **means = tensors(adamw.sizes, adamw.count);
  float **squares = tensors(adamw.sizes, adamw.count);
  adamw.parameters = parameters, adamw.means = means, adamw.squares = squares;
  adamw.gradients = (const float *const *)tensors(adamw.sizes, adamw.count);
  const float sum = (float)kernels->sum_of_squares(adamw.gradients, adamw.sizes, adamw.count, adamw.threads);
  kernels->adamw(&adamw);
  write_floats(&sum, 1);
  write_tensors(parameters, adamw.sizes, adamw.count), write_tensors(means, adamw.sizes, adamw.count);
  write_tensors(squares, adamw.sizes, adamw.count);
}

int main(int count, char **arguments) {
  if (count != 5) fail("expected LIBRARY INSTRUCTION_SET INPUT OUTPUT");
  void *library = dlopen(arguments[1], RTLD_NOW);
  if (!library) fail(dlerror());
  const Kernels *(*of)(const char *) = (const Kernels *(*)(const char *))dlsym(library, "echoself_kernels");
  if (!of) fail(dlerror());
  const Kernels *kernels = of(arguments[2]);
  if (!kernels) return 3;
  input = fopen(arguments[3], "rb"), output = fopen(arguments[4], "wb");
  if (!input || !output) fail("a file can't be opened");
  for (int32_t *kind; *(kind = ints(1)) != 0; free(kind)) {
    if (*kind == 1) run_model(kernels);
    else if (*kind == 2) run_muon(kernels);
    else run_adamw(kernels);
  }
  if (kernels->peak(10) <= 0) fail("no operations in the loop of the peak");
  return fclose(output) != 0;
}
