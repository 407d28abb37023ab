"""The native GPT-2 block, forward and backward: compared with PyTorch in fp32, and bit-identical for any number of threads."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from echoself_action import native
from echoself_action.model.gpt2 import GPT2, GPT2Config, Linear, Transformer
from echoself_action.native import gpt2_block

CONFIG = GPT2Config(vocab_size=10, block_size=64, n_layer=2, n_head=2, n_embd=64)
OTHERS = [
    replace(CONFIG, activation="gelu_new"),
    replace(CONFIG, bias=False),
    replace(CONFIG, block_size=160, n_head=3, n_embd=96),  # contexts of several chunks, the last one shorter
    replace(CONFIG, block_size=32, n_head=1, n_embd=32),
    replace(CONFIG, block_size=96, n_head=1, n_embd=128, layer_norm_epsilon=0.1),
]


Trunk = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass
class Computed:
    """A trunk's output, and the gradients of the embeddings and of the parameters by name."""

    y: Tensor
    grad_x: Tensor
    grads: dict[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        return {"y": self.y, "x": self.grad_x, **self.grads}


def a_model(config: GPT2Config, spread: float = 1.0) -> GPT2:
    """With weights of a size that matters in every operation, and layer norms and biases that are not 1 and 0."""
    model, generator = GPT2(config), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(0.0, spread * p.shape[0] ** -0.5 if p.dim() > 1 else 0.2, generator=generator)
            if ".ln_" in name and name.endswith("weight"):
                p += 1
    return model.train()


def an_input(config: GPT2Config, sequences: int = 3) -> Tensor:
    return torch.randn(sequences, config.block_size, config.n_embd, generator=torch.Generator().manual_seed(2))


def native_copy(model: GPT2) -> tuple[Transformer, Trunk]:
    """A copy of its transformer with packed weights, and the native trunk of that copy."""
    transformer = deepcopy(model.transformer)
    for layer in transformer.modules():
        if isinstance(layer, Linear):
            panels = native.panels_for(layer.weight)
            native.pack(layer.weight.detach(), panels)
            layer.weight = nn.Parameter(panels[0])
    return transformer, gpt2_block.trunk(transformer)


def by_native(model: GPT2, x: Tensor) -> Computed:
    transformer, trunk = native_copy(model)
    return computed(trunk(x.requires_grad_()), x, transformer)


def by_pytorch(model: GPT2, x: Tensor, dtype: torch.dtype) -> Computed:
    transformer = deepcopy(model.transformer)
    with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
        y = transformer.from_embeddings(x.requires_grad_())
    return computed(y, x, transformer)


def computed(y: Tensor, x: Tensor, transformer: nn.Module) -> Computed:
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(3)))  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return Computed(y.detach(), x.grad, {name: p.grad for name, p in transformer.named_parameters() if p.grad is not None})


def error(found: Tensor, wanted: Tensor) -> float:
    return ((found.float() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("config", [CONFIG, *OTHERS], ids=str)
def test_output_and_gradients_are_closer_to_fp32_than_pytorchs_in_bfloat16(native_code: None, config: GPT2Config) -> None:
    model, x = a_model(config), an_input(config)
    wanted = by_pytorch(model, x.clone(), torch.float32).tensors()
    found, pytorchs = by_native(model, x.clone()).tensors(), by_pytorch(model, x.clone(), torch.bfloat16).tensors()
    assert found.keys() == wanted.keys() == pytorchs.keys()
    for name, tensor in wanted.items():
        assert found[name].shape == tensor.shape
        assert error(found[name], tensor) < 0.02, name
        # the error of a short vector varies more
        assert error(found[name], tensor) < 1.3 * error(pytorchs[name], tensor) + 1e-6, name
    assert sum(error(found[name], wanted[name]) for name in wanted) < sum(
        error(pytorchs[name], wanted[name]) for name in wanted
    )


@pytest.mark.parametrize("count", [2, 3, 7, 100])
def test_results_do_not_depend_on_the_number_of_threads(native_code: None, count: int) -> None:
    config = OTHERS[2]
    model, x = a_model(config), an_input(config)
    torch.set_num_threads(1)
    alone = by_native(model, x.clone()).tensors()
    torch.set_num_threads(count)
    for name, tensor in by_native(model, x.clone()).tensors().items():
        assert name.startswith("ln_f") or torch.equal(tensor, alone[name]), name  # that one is PyTorch's


def test_a_trunk_computes_batches_of_different_sizes(native_code: None) -> None:
    (_, trunk), x = native_copy(a_model(CONFIG)), an_input(CONFIG, sequences=5)
    with torch.no_grad():
        whole = trunk(x)
        for start, end in ((0, 1), (1, 5), (2, 4)):
            assert torch.equal(trunk(x[start:end]), whole[start:end])


def test_attention_is_causal(native_code: None) -> None:
    config = OTHERS[2]
    model, x = a_model(config), an_input(config)
    before = by_native(model, x.clone()).y
    for position in (1, 31, 32, 63, 64, 100, 159):
        other = x.clone()
        other[:, position:] += torch.randn(other[:, position:].shape, generator=torch.Generator().manual_seed(4))
        after = by_native(model, other).y
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.equal(after[:, position], before[:, position])


def test_nan_reaches_the_output_and_the_gradients(native_code: None) -> None:
    x = an_input(CONFIG)
    x[1, 40, 7] = torch.nan
    found = by_native(a_model(CONFIG), x)
    assert found.y[1, 40:].isnan().all()
    assert not found.y[[0, 2]].isnan().any()
    assert all(gradient.isnan().any() for name, gradient in found.grads.items() if name.startswith("h."))


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_large_inputs_stay_finite(native_code: None, activation: str) -> None:
    config = replace(CONFIG, activation=activation)
    model, x = a_model(config, spread=300.0), an_input(config)
    found, wanted = by_native(model, x.clone()), by_pytorch(model, x.clone(), torch.float32)
    for name, tensor in found.tensors().items():
        assert tensor.isfinite().all(), name
    assert error(found.y, wanted.y) < 0.2  # attention picks one position, or another with an equal score in bfloat16


@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_gelu_and_its_derivative_saturate_far_from_0(native_code: None, activation: str, size: float) -> None:
    model, x = a_model(replace(CONFIG, activation=activation)), an_input(CONFIG)
    with torch.no_grad():
        for block in model.transformer.h:
            block.mlp.c_fc.bias.copy_(torch.tensor([size, -size]).repeat(len(block.mlp.c_fc.bias) // 2))
    found, wanted = by_native(model, x.clone()), by_pytorch(model, x.clone(), torch.float32)
    assert error(found.y, wanted.y) < 0.02
    for name in ("h.1.mlp.c_fc.bias", "h.1.mlp.c_proj.weight"):
        assert error(found.grads[name], wanted.grads[name]) < 0.02


def test_packed_panels_hold_a_weight_and_its_transpose_in_bfloat16(native_code: None) -> None:
    weight = torch.randn(50, 96)
    panels = native.panels_for(weight)
    native.pack(weight, panels)
    weight = torch.cat([weight, torch.zeros(14, 96)])  # zero-padded to a multiple of 32
    for packed, matrix in ((panels[0], weight), (panels[1], weight.t())):
        vnni_panels = packed.view(matrix.shape[1] // 32, matrix.shape[0] // 2, 32, 2)
        assert torch.equal(vnni_panels.permute(1, 3, 0, 2).reshape(matrix.shape), matrix.bfloat16())


@pytest.mark.parametrize(
    ("config", "dtype", "reason"),
    [
        (replace(CONFIG, dropout=0.1), torch.bfloat16, "they need dropout: 0"),
        (replace(CONFIG, block_size=48), torch.bfloat16, "multiples of 32"),
        (replace(CONFIG, n_head=4), torch.bfloat16, "multiples of 32"),
        (CONFIG, torch.float32, "they need dtype: bfloat16"),
    ],
)
def test_why_not_names_the_unsupported_setting(native_code: None, config: GPT2Config, dtype: torch.dtype, reason: str) -> None:
    assert reason in (gpt2_block.why_not(GPT2(config), dtype) or "")


def test_why_not_names_an_unsupported_architecture() -> None:
    assert gpt2_block.why_not(nn.Linear(1, 1), torch.bfloat16) == "they need architecture: gpt2"
