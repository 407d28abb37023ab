"""NanEcho by native kernels: compared with PyTorch in float64, in every instruction set of this CPU."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from echoself_action import native
from echoself_action.errors import TrainingError
from echoself_action.model.nanecho import NanEchoForCausalLM, PersonaDimension
from echoself_action.native.layers import PERSONA_TENSORS, Layers
from echoself_action.native.models import evaluated_natively, native_model, why_not
from echoself_action.native.nanecho import NativeNanEcho
from tests.native.nanecho_reference import a_batch, a_model

EXTRAS = ("adaptive_attention", "persona_dimensions", "recursive_reasoning", "hypergraph_patterns")
IN_FP32 = [name for name in native._usable() if native.dtype_of(name) is torch.float32]


@pytest.fixture(params=IN_FP32 or ["none"])
def isa(native_code: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The instruction set that ECHOSELF_ISA names, of those whose products are in fp32."""
    monkeypatch.setenv("ECHOSELF_ISA", request.param)
    return str(request.param)


def computed(
    model: NanEchoForCausalLM, loss: Callable[[Tensor, Tensor], Tensor], batch: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """The loss and the gradients by name."""
    torch.manual_seed(4)  # of the injected patterns
    result = loss(*batch)
    result.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": result.detach(), **gradients}


def by_native(model: NanEchoForCausalLM, batch: tuple[Tensor, Tensor], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    model = deepcopy(model)
    return computed(model, NativeNanEcho(model, dtype).loss, batch)


def in_float64(model: NanEchoForCausalLM, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    model = deepcopy(model).double()
    return computed(model, model.loss, batch)


def error(one: Tensor, wanted: Tensor) -> float:
    return float((one.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_embd": 60, "n_head": 3, "vocab_size": 77, "bias": False},
        {"n_embd": 36, "n_head": 1, "vocab_size": 5000, "current_iteration": 0},
        {"persona_dimensions": ["calm", "curious"], "dimension_weights": {"calm": 0.7}},
        *({f"enable_{extra}": False} for extra in EXTRAS),
    ],
    ids=str,
)
def test_loss_and_gradients_equal_those_of_float64(isa: str, changes: dict[str, Any]) -> None:
    model, batch = a_model(**changes), a_batch(vocabulary=changes.get("vocab_size", 500))
    wanted, found = in_float64(model, batch), by_native(model, batch)
    assert found.keys() == wanted.keys()
    everything = [torch.cat([tensors[name].flatten().double() for name in wanted]) for tensors in (found, wanted)]
    assert error(*everything) < 1e-5
    # where rounding decides a ReLU, or a sum is almost zero, a single small tensor has fewer digits in fp32
    assert [name for name in wanted if error(found[name], wanted[name]) > 0.03] == []


def test_short_texts_have_the_gradients_of_float64(isa: str) -> None:
    for length in (1, 2, 7):
        wanted, found = in_float64(a_model(), a_batch(length)), by_native(a_model(), a_batch(length))
        assert error(found["token_embedding.weight"], wanted["token_embedding.weight"]) < 1e-4
        assert error(found["blocks.0.attn.qkv.weight"], wanted["blocks.0.attn.qkv.weight"]) < 1e-4


def test_gradients_in_bfloat16_are_as_accurate_as_pytorchs(native_code: None) -> None:
    if native.instruction_set(torch.bfloat16) is None:
        pytest.skip("this CPU has no native kernels for bfloat16")
    model, batch = a_model(), a_batch()
    wanted, found, copy = in_float64(model, batch), by_native(model, batch, torch.bfloat16), deepcopy(model)
    with torch.autocast("cpu", torch.bfloat16):
        by_pytorch = computed(copy, copy.loss, batch)
    for name in ("token_embedding.weight", "blocks.0.attn.qkv.weight", "blocks.3.mlp.2.weight"):
        assert error(found[name], wanted[name]) < 1.6 * error(by_pytorch[name], wanted[name]), name


def test_gradients_do_not_depend_on_the_number_of_threads(isa: str) -> None:
    sizes = {"vocab_size": 500, "block_size": 400, "n_embd": 128}  # PyTorch divides larger tensors over its threads
    model, batch = a_model(dropout=0.1, **sizes), a_batch(400)
    torch.set_num_threads(1)
    wanted = by_native(model, batch)
    for count in (2, 3, 2):
        torch.set_num_threads(count)
        found = by_native(model, batch)
        assert [name for name, tensor in wanted.items() if not torch.equal(found[name], tensor)] == []


def test_attention_drops_at_its_rate_and_has_the_gradients_of_what_it_kept(isa: str) -> None:
    layers, length, rate = Layers(torch.float32), 64, 0.25
    generator = torch.Generator().manual_seed(1)
    query_key, thresholds = torch.randn(1, length, 2 * length, generator=generator), torch.full((1, length), 0.6)

    def attend(value: Tensor, dropout: float, seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        qkv = torch.cat([query_key, value[None]], 2).requires_grad_()
        return qkv, layers.attention(qkv, 1, thresholds, dropout)

    everything, kept = (attend(torch.eye(length), some, seed=5)[1][0].detach() for some in (0.0, rate))
    factors = torch.where(everything > 0, kept / everything, 0).tril()
    assert set(factors.mul(100).round().flatten().tolist()) == {0, 133}
    assert (factors.count_nonzero() / (length * (length + 1) / 2)).item() == pytest.approx(1 - rate, abs=0.04)
    assert not torch.equal(attend(torch.eye(length), rate, seed=6)[1][0], kept)

    value, gradient = torch.randn(length, length, generator=generator), torch.randn(length, length, generator=generator)
    qkv, y = attend(value, rate, seed=5)
    y.backward(gradient[None])  # type: ignore[no-untyped-call]
    exact = qkv.detach().double().requires_grad_()
    query, key, values = exact[0].split(length, 1)
    scores = query @ key.T / length**0.5
    scores = F.softplus(scores - 0.6) - F.softplus(-0.6 - scores)
    hidden = torch.ones(length, length).triu(1).bool()
    result = (scores.masked_fill(hidden, -torch.inf).softmax(-1) * (factors > 0.5) / (1 - rate)) @ values
    result.backward(gradient.double())  # type: ignore[no-untyped-call]
    assert error(y.detach()[0], result.detach()) < 1e-5
    assert qkv.grad is not None
    assert exact.grad is not None
    assert error(qkv.grad, exact.grad) < 1e-5


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(7, 20, 1), (150, 64, 130), (100, 700, 300)])
def test_a_linear_layer_equals_float64(isa: str, rows: int, inputs: int, outputs: int) -> None:
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(*shape, generator=generator) for shape in ((rows, inputs), (outputs, inputs), (outputs,))]
    gradient = torch.randn(rows, outputs, generator=generator)
    single, double = ([tensor.to(dtype).requires_grad_() for tensor in tensors] for dtype in (torch.float32, torch.float64))
    y, wanted = Layers(torch.float32).linear(*single), F.linear(*double)
    assert error(y.detach(), wanted.detach()) < 1e-6
    both = torch.autograd.grad(y, single, gradient), torch.autograd.grad(wanted, double, gradient.double())
    assert max(error(one, other) for one, other in zip(*both, strict=True)) < 1e-6


def test_a_persona_equals_float64(isa: str) -> None:
    persona = PersonaDimension(84)
    named, x = dict(persona.named_parameters()), torch.randn(50, 84, generator=torch.Generator().manual_seed(1))
    parameters, gradient = [named[name] for name in PERSONA_TENSORS], torch.randn(50, 84)
    y = Layers(torch.float32).persona(x.requires_grad_(), 0.3, parameters)
    found = torch.autograd.grad(y, (x, *parameters), gradient)
    exact, double = x.detach().double().requires_grad_(), persona.double()
    wanted = torch.autograd.grad(exact + 0.3 * double(exact), (exact, *parameters), gradient.double())
    assert max(error(one, other) for one, other in zip(found, wanted, strict=True)) < 1e-5


def test_large_scores_overflow_nowhere(isa: str) -> None:
    qkv = 300 * torch.randn(1, 40, 96, generator=torch.Generator().manual_seed(1))
    qkv.requires_grad_()
    Layers(torch.float32).attention(qkv, 2, torch.full((1, 40), 0.5), 0.0).sum().backward()  # type: ignore[no-untyped-call]
    assert qkv.grad is not None
    assert bool(qkv.grad.isfinite().all())


def test_evaluated_losses_are_those_of_the_model(isa: str) -> None:
    model, (ids, targets) = a_model(dropout=0.3).eval(), a_batch()
    natively = evaluated_natively(model)
    assert isinstance(natively, NativeNanEcho)
    wanted = deepcopy(model).double().loss(ids, targets, reduction="none").detach()
    assert error(natively.losses(ids, targets).flatten(), wanted) < 1e-6


def test_a_token_outside_the_vocabulary_is_an_error(isa: str) -> None:
    model, (ids, targets) = a_model(), a_batch()
    for some in (ids, targets):
        some[1, 3] = 500
        with pytest.raises(TrainingError, match="Token id 500 is not in the model's vocabulary of 500 tokens"):
            NativeNanEcho(model, torch.float32).loss(ids, targets)
        some[1, 3] = 0


def test_a_legacy_model_is_left_to_pytorch(isa: str) -> None:
    assert why_not(a_model(legacy=True), torch.float32) == "they don't compute the arithmetic of a NanEcho with legacy: true"
    assert why_not(a_model(), torch.float32) is None
    assert isinstance(native_model(a_model(), torch.float32), NativeNanEcho)
