"""The losses of a GPT-2 and their gradients by native kernels, compared with PyTorch, for every instruction set of this CPU."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

from echoself_action import native
from echoself_action.errors import TrainingError
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.native.gpt2 import NativeGPT2
from echoself_action.native.models import why_not
from echoself_action.training.optim.optimizers import OptimizerName
from echoself_action.training.optim.param_groups import make_optimizer
from tests.native.gpt2_reference import Result, a_batch, a_model, by_native, by_pytorch, error

CONFIG = GPT2Config(vocab_size=65, block_size=64, n_layer=2, n_head=2, n_embd=64)
ODD = replace(CONFIG, vocab_size=257, block_size=37, n_head=5, n_embd=35)
CONFIGS = {
    "multiples of the registers": CONFIG,
    "gelu_new": replace(CONFIG, activation="gelu_new"),
    "no biases": replace(CONFIG, bias=False),
    "head size 7, odd width, block size and vocabulary": ODD,
    "one head, epsilon 0.1": replace(CONFIG, block_size=33, n_head=1, n_embd=33, layer_norm_epsilon=0.1),
    "several blocks of rows in attention": replace(CONFIG, block_size=160, n_head=3, n_embd=96),
    "several blocks of the vocabulary": replace(CONFIG, block_size=50, vocab_size=5000, n_embd=24),
    "several blocks of the summed dimension": replace(CONFIG, block_size=16, n_layer=1, n_head=3, n_embd=201),
}
FP32, BFLOAT16 = 1e-5, 0.02  # how far results may be from those in float64


def tolerance(dtype: torch.dtype) -> float:
    return BFLOAT16 if dtype is torch.bfloat16 else FP32


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_are_pytorchs(dtype: torch.dtype, name: str) -> None:
    """Within 1e-5 of those in float64; in bfloat16, about as near to them as PyTorch's autocast."""
    model, batch = a_model(CONFIGS[name]), a_batch(CONFIGS[name])
    wanted, found = by_pytorch(model, *batch).tensors(), by_native(model, *batch, dtype).tensors()
    assert found.keys() == wanted.keys()
    errors = {name: error(found[name], tensor) for name, tensor in wanted.items()}
    assert {name: one for name, one in errors.items() if not one < tolerance(dtype)} == {}
    if dtype is torch.bfloat16:
        autocast = by_pytorch(model, *batch, torch.bfloat16).tensors()
        allowed = {name: 1.3 * error(autocast[name], tensor) for name, tensor in wanted.items()}
        assert {name: (one, allowed[name]) for name, one in errors.items() if one > allowed[name]} == {}
        assert sum(errors.values()) < 1.05 * sum(allowed.values()) / 1.3


@pytest.mark.parametrize(("sequences", "length"), [(1, 37), (1, 1), (4, 5), (2, 36)])
def test_batches_of_any_size(dtype: torch.dtype, sequences: int, length: int) -> None:
    model, batch = a_model(ODD), a_batch(ODD, sequences, length)
    wanted, found = by_pytorch(model, *batch).tensors(), by_native(model, *batch, dtype).tensors()
    assert_near(found, wanted, dtype)
    assert (found["transformer.wpe.weight"][length:] == 0).all()
    assert found["transformer.wpe.weight"][:length].count_nonzero() > 0


@st.composite
def configs(draw: st.DrawFn) -> GPT2Config:
    heads = draw(st.integers(1, 4))
    return GPT2Config(
        vocab_size=draw(st.integers(1, 150)),
        block_size=draw(st.integers(1, 80)),
        n_layer=draw(st.integers(1, 2)),
        n_head=heads,
        n_embd=heads * draw(st.integers(max(1, 6 // heads), 40)),
        bias=draw(st.booleans()),
        activation=draw(st.sampled_from(["gelu", "gelu_new"])),
    )


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(configs(), st.integers(1, 4), st.floats(0, 1), st.integers(1, 2))
def test_models_of_any_size(dtype: torch.dtype, config: GPT2Config, sequences: int, share: float, threads: int) -> None:
    torch.set_num_threads(threads)
    model, batch = a_model(config), a_batch(config, sequences, max(1, round(share * config.block_size)))
    assert_near(by_native(model, *batch, dtype).tensors(), by_pytorch(model, *batch).tensors(), dtype)


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Relative to each tensor, and to all, because of those that are 0 but for rounding."""
    whole = torch.cat([tensor.flatten() for tensor in wanted.values()]).norm()
    for name, tensor in wanted.items():
        allowed = tolerance(dtype) * (2 * tensor.norm() + 0.1 * whole) + 1e-6
        assert (found[name] - tensor).norm() < allowed, name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("config", [CONFIG, ODD], ids=["even", "odd"])
def test_whole_steps_are_pytorchs(dtype: torch.dtype, optimizer: OptimizerName, config: GPT2Config) -> None:
    """The parameters after five steps, with gradients that are scaled as for clipping.

    But for the biases of keys: their gradient is 0 but for rounding, and AdamW divides it by its own size.
    """
    model = a_model(config)
    double, before = a_model(config).double(), {name: p.detach().double() for name, p in model.named_parameters()}
    ours = make_optimizer(model, optimizer, 1e-3, 0.1, dtype, native=True)
    theirs = make_optimizer(double, optimizer, 1e-3, 0.1, torch.float64)
    for step in range(5):
        batch = a_batch(config, 1 + step)
        for each, result in ((model, by_native(model, *batch, dtype)), (double, by_pytorch(double, *batch))):
            for name, p in each.named_parameters():
                p.grad = result.gradients[name]
                if name.endswith("c_attn.bias"):
                    p.grad[config.n_embd : 2 * config.n_embd] = 0
        assert ours.gradient_norm().item() == pytest.approx(theirs.gradient_norm().item(), rel=tolerance(dtype))
        ours.step(0.3)
        theirs.step(0.3)
    for name, p in model.named_parameters():
        wanted = double.get_parameter(name).detach()
        assert error(p.detach(), wanted) < (1e-5 if dtype is torch.float32 else 0.003), name
        assert error(wanted, before[name]) > 3e-4, name


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_results_do_not_depend_on_the_number_of_threads(dtype: torch.dtype, dropout: float) -> None:
    config = replace(ODD, block_size=150, dropout=dropout)
    model, batch = a_model(config), a_batch(config)

    def computed(threads: int) -> dict[str, Tensor]:
        torch.set_num_threads(threads)
        return by_native(model, *batch, dtype, [5, 6, 7]).tensors() | {"alone": NativeGPT2(model, dtype).losses(*batch)}

    alone = computed(1)
    for threads in (2, 3, 7, 100):
        assert [name for name, tensor in computed(threads).items() if not torch.equal(tensor, alone[name])] == []


def test_losses_do_not_depend_on_the_batch(dtype: torch.dtype) -> None:
    """One object computes batches of all sizes, in memory that the others have left."""
    ids, targets = a_batch(ODD, 5)
    model = NativeGPT2(a_model(ODD), dtype)
    whole = model.losses(ids, targets)
    for start, end in ((0, 1), (1, 5), (2, 4)):
        assert torch.equal(model.losses(ids[start:end], targets[start:end]), whole[start:end])
    assert torch.equal(model.losses(ids[:, :9], targets[:, :9]), whole[:, :9])
    assert torch.equal(by_native(a_model(ODD), ids, targets, dtype).losses, whole)


def test_memory_of_any_content_will_do(dtype: torch.dtype) -> None:
    model, (ids, targets) = a_model(ODD), a_batch(ODD)
    kernels = NativeGPT2(model, dtype)
    found = []
    for content in (0, 255):  # 0 and NaN
        gradients = {name: torch.full_like(p, torch.nan) for name, p in model.named_parameters()}
        kernels._memory._bytes = torch.full((1 << 24,), content, dtype=torch.uint8)
        losses = kernels.losses(ids, targets)
        kernels._memory._bytes.fill_(content)
        found.append([losses, kernels.gradients(ids, targets, 1.0, gradients, False, ()), *gradients.values()])
        assert len(kernels._memory._bytes) == 1 << 24
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_gradients_are_accumulated(dtype: torch.dtype) -> None:
    model, (ids, targets) = a_model(ODD), a_batch(ODD, 5)
    kernels, whole = NativeGPT2(model, dtype), by_native(model, ids, targets, dtype)
    gradients = {name: torch.full_like(p, torch.nan) for name, p in model.named_parameters()}
    for part in (slice(0, 2), slice(2, 5)):
        kernels.gradients(ids[part], targets[part], 1 / ids.numel(), gradients, part.start > 0, ())
    for name, gradient in gradients.items():
        assert error(gradient, whole.gradients[name].double()) < tolerance(dtype) / 5, name


def test_gradients_of_a_sum_that_is_scaled_by_0_are_0(dtype: torch.dtype) -> None:
    model, (ids, targets) = a_model(ODD), a_batch(ODD)
    gradients = {name: torch.full_like(p, torch.nan) for name, p in model.named_parameters()}
    NativeGPT2(model, dtype).gradients(ids, targets, 0.0, gradients, False, ())
    assert not any(gradient.any() for gradient in gradients.values())


def test_chunks_of_positions_change_only_rounding(dtype: torch.dtype) -> None:
    """The logits of a vocabulary of 300,000 tokens are computed for at most 72 positions at a time."""
    config = GPT2Config(vocab_size=300_000, block_size=40, n_layer=1, n_head=1, n_embd=3)
    model, (ids, targets) = a_model(config), a_batch(config)
    together, kernels = by_native(model, ids, targets, dtype), NativeGPT2(model, dtype)
    gradients = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    losses = [kernels.gradients(ids[i, None], targets[i, None], 1 / ids.numel(), gradients, True, ()) for i in range(3)]
    assert torch.equal(torch.cat(losses), together.losses)
    for name, gradient in gradients.items():
        assert error(together.gradients[name], gradient.double()) < (1e-4 if dtype is torch.bfloat16 else 1e-6), name


def test_the_model_is_causal(dtype: torch.dtype) -> None:
    config = CONFIGS["several blocks of rows in attention"]
    model, (ids, targets) = NativeGPT2(a_model(config), dtype), a_batch(config)
    before = model.losses(ids, targets)
    for position in (1, 31, 32, 63, 64, 71, 72, 100, 159):
        other = ids.clone()
        other[:, position:] = (other[:, position:] + 1) % config.vocab_size
        after = model.losses(other, targets)
        assert torch.equal(after[:, :position], before[:, :position])
        assert (after[:, position] != before[:, position]).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["wpe.weight", "h.0.attn.c_attn.bias", "h.1.mlp.c_fc.weight", "ln_f.weight", "wte.weight"])
def test_nan_and_infinity_reach_the_losses_and_the_gradients(dtype: torch.dtype, name: str, value: float) -> None:
    model = a_model(CONFIG)
    with torch.no_grad():
        model.transformer.get_parameter(name)[-1] = value  # of the matrices, the last row
    batch = a_batch(CONFIG)
    found = by_native(model, *batch, dtype)
    assert not found.losses[:, 40:].isfinite().all()
    assert found.losses[:, -1].isnan().all()
    assert [name for name, gradient in found.gradients.items() if not gradient.isnan().any()] == []


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_large_inputs_stay_finite(dtype: torch.dtype, activation: str) -> None:
    config = replace(CONFIG, activation=activation)
    model, batch = a_model(config, spread=300.0), a_batch(config)
    found, wanted = by_native(model, *batch, dtype), by_pytorch(model, *batch)
    assert [name for name, tensor in found.tensors().items() if not tensor.isfinite().all()] == []
    # attention picks one position, or another with an equal score in bfloat16
    assert error(found.losses, wanted.losses) < (0.5 if dtype is torch.bfloat16 else 0.01)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_gelu_and_its_derivative_saturate_far_from_0(dtype: torch.dtype, activation: str, size: float) -> None:
    config = replace(CONFIG, activation=activation)
    model, batch = a_model(config), a_batch(config)
    with torch.no_grad():
        for block in model.transformer.h:
            block.mlp.c_fc.bias.copy_(torch.tensor([size, -size]).repeat(len(block.mlp.c_fc.bias) // 2))
    found, wanted = by_native(model, *batch, dtype).tensors(), by_pytorch(model, *batch).tensors()
    for name in ("losses", "transformer.h.1.mlp.c_fc.bias", "transformer.h.1.mlp.c_proj.weight"):
        assert error(found[name], wanted[name]) < 2 * tolerance(dtype), name


def test_a_vocabulary_of_one_token_has_probability_1(dtype: torch.dtype) -> None:
    config = replace(CONFIG, vocab_size=1)
    found = by_native(a_model(config), *a_batch(config), dtype)
    assert all(tensor.abs().max() < 1e-6 for tensor in found.tensors().values())


def test_large_logits_of_the_right_targets_give_a_loss_of_0(dtype: torch.dtype) -> None:
    model, (ids, _) = a_model(CONFIG), a_batch(CONFIG)
    with torch.no_grad():
        model.transformer.ln_f.weight.mul_(1e4)
        model.transformer.ln_f.bias.mul_(1e4)
    found = by_native(model, ids, model.logits(ids).argmax(2), dtype)
    assert found.losses.median() < 1e-6
    assert all(gradient.isfinite().all() for gradient in found.gradients.values())


@pytest.mark.parametrize("token", [-1, 65, 79, 80, -(1 << 40), 1 << 40])
@pytest.mark.parametrize("of_targets", [False, True])
def test_an_id_outside_the_vocabulary_is_an_error_and_nothing_is_written(
    dtype: torch.dtype, token: int, of_targets: bool
) -> None:
    model, batch = a_model(CONFIG), a_batch(CONFIG)
    batch[of_targets][2, 5] = token
    gradients = {name: torch.full_like(p, 7.0) for name, p in model.named_parameters()}
    kernels, message = (
        NativeGPT2(model, dtype),
        rf"Token id {token} is not in the model's vocabulary of 65 tokens \(ids 0 to 64\)",
    )
    with pytest.raises(TrainingError, match=message):
        kernels.gradients(*batch, 1.0, gradients, False, ())
    assert all((gradient == 7).all() for gradient in gradients.values())
    with pytest.raises(TrainingError, match=message):
        kernels.losses(*batch)


def test_a_batch_that_the_model_cant_compute_is_an_error(dtype: torch.dtype) -> None:
    kernels, (ids, targets) = NativeGPT2(a_model(CONFIG), dtype), a_batch(CONFIG)
    longer = torch.zeros(3, 65, dtype=torch.int64)
    for wrong in (
        (longer, longer),
        (ids, targets[:2]),
        (ids.int(), targets),
        (ids[:0], targets[:0]),
        (ids[:, :0], targets[:, :0]),
    ):
        with pytest.raises(ValueError, match="block_size of 64"):
            kernels.losses(*wrong)


def test_why_not_names_what_is_missing(native_code: None) -> None:
    assert why_not(nn.Linear(1, 1), torch.float32) == "they need architecture: gpt2 or nanecho"
    assert why_not(GPT2(CONFIG).double(), torch.float32) == "they need whole parameters in float32 on a CPU"
    assert why_not(GPT2(CONFIG).to("meta"), torch.float32) == "they need whole parameters in float32 on a CPU"
    assert why_not(GPT2(CONFIG), torch.float16) == "there are none for dtype: float16"
    assert (why_not(GPT2(CONFIG), torch.float32) is None) == (native.instruction_set(torch.float32) is not None)


def test_a_model_is_read_where_it_is(dtype: torch.dtype) -> None:
    """An optimizer changes it between the calls."""
    model, batch = a_model(CONFIG), a_batch(CONFIG)
    kernels = NativeGPT2(model, dtype)
    before = kernels.losses(*batch)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.mul_(1.1)
    after = kernels.losses(*batch)
    assert not torch.equal(after, before)
    assert error(after, by_pytorch(model, *batch).losses) < tolerance(dtype)


def test_parts_of_a_batch_may_be_views(dtype: torch.dtype) -> None:
    model, (ids, targets) = a_model(ODD), a_batch(ODD)
    strided = torch.stack([ids, targets], -1)
    found = by_native(model, strided[..., 0], strided[..., 1], dtype)
    wanted: Result = by_native(model, ids, targets, dtype)
    assert all(torch.equal(tensor, wanted.tensors()[name]) for name, tensor in found.tensors().items())
