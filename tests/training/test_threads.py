"""Training in two threads: same gradients as in one, and deterministic."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch

from echoself_action.checkpoint.weights import new_model
from echoself_action.corpus.tokens import Tokens
from echoself_action.model import GPT2Config
from echoself_action.model.gpt2 import GPT2
from echoself_action.model.nanecho import NanEchoConfig
from echoself_action.training.cpu.threads import Threads, thread_count
from echoself_action.training.init_or_resume import new_run
from echoself_action.training.run import Data, Run
from echoself_action.training.train_step import Stepper
from tests.conftest import training_settings

CPU = torch.device("cpu")


def gradients(tokens: Tokens, config: GPT2Config, threads: int, **changes: Any) -> tuple[float, dict[str, torch.Tensor]]:
    run = make_run(tokens, config, **changes)
    with Threads(threads) as both:
        loss = Stepper(run, run.batches(), both).gradients()
    return loss.item(), {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}


def make_run(tokens: Tokens, config: GPT2Config, **changes: Any) -> Run:
    run = new_run(config, Data(tokens, []), training_settings(**changes))
    assert len(run.optimizer.parts) == 2
    run.model.train()
    return run


def test_two_threads_run_in_parallel_with_half_of_the_cores_each(two_cores: None) -> None:
    both_there = threading.Barrier(2)

    def work(item: int) -> tuple[int, int, int]:
        both_there.wait(30)
        return item, torch.get_num_threads(), threading.get_ident()

    with Threads(2) as threads:
        torch.set_num_threads(4)
        (one, cores, first), (two, other_cores, second) = threads.map(work, [1, 2])
        assert torch.get_num_threads() == 4
    assert (one, two, cores, other_cores) == (1, 2, 2, 2)
    assert first == threading.get_ident() != second


@pytest.mark.parametrize("failing", [1, 2])
def test_error_in_one_thread_is_raised_after_the_other_has_finished(two_cores: None, failing: int) -> None:
    ended, failed = [], threading.Event()

    def work(item: int) -> None:
        if item == failing:
            failed.set()
            raise MemoryError(str(item))
        failed.wait(30)
        sum(range(1_000_000))
        ended.append(item)

    with Threads(2) as threads, pytest.raises(MemoryError, match=str(failing)):
        threads.map(work, [1, 2])
    assert ended == [3 - failing]
    assert torch.get_num_threads() == 2


def test_single_item_uses_all_cores(two_cores: None) -> None:
    with Threads(2) as threads:
        assert threads.map(lambda _: torch.get_num_threads(), [1]) == [2]


@pytest.mark.parametrize("changes", [{}, {"gradient_accumulation": 3}, {"batch_size": 5}, {"batch_size": 1}], ids=str)
def test_gradients_of_two_threads_equal_those_of_one(
    two_cores: None, tokens: Tokens, small_config: GPT2Config, changes: dict[str, Any]
) -> None:
    (loss, both), (other_loss, alone) = (gradients(tokens, small_config, count, **changes) for count in (2, 1))
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert both.keys() == alone.keys()
    for name, gradient in both.items():
        torch.testing.assert_close(gradient, alone[name], atol=1e-6, rtol=1e-4, msg=name)


def test_gradient_clipping_in_two_threads_equals_that_in_one(two_cores: None, tokens: Tokens, small_config: GPT2Config) -> None:
    found = []
    for count in (2, 1):
        run = make_run(tokens, small_config, grad_clip=0.01, optimizer="adamw")
        with Threads(count) as threads:
            stepper = Stepper(run, run.batches(), threads)
            stepper.gradients()
            norm = stepper.update().item()
        clipped = torch.nn.utils.get_total_norm([p.grad for p in run.model.parameters() if p.grad is not None])
        assert norm > 0.1
        assert clipped.item() == pytest.approx(0.01, rel=1e-3)
        found.append((norm, run.model.state_dict()))
    (norm, both), (other_norm, alone) = found
    assert norm == pytest.approx(other_norm, rel=1e-5)
    for name, tensor in both.items():
        torch.testing.assert_close(tensor, alone[name], atol=2e-5, rtol=0, msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_are_bit_identical_on_one_and_two_cores(
    two_cores: None, tokens: Tokens, small_config: GPT2Config, dtype: str
) -> None:
    config = replace(small_config, dropout=0.2)
    (_, first), *others = (gradients(tokens, config, 2, gradient_accumulation=3, dtype=dtype) for _ in range(8))
    torch.set_num_threads(1)
    on_one_core = gradients(tokens, config, 2, gradient_accumulation=3, dtype=dtype)
    for _, other in (*others, on_one_core):
        assert all(torch.equal(gradient, other[name]) for name, gradient in first.items())
    _, undropped = gradients(tokens, small_config, 2, gradient_accumulation=3, dtype=dtype)
    assert not torch.equal(first["transformer.wpe.weight"], undropped["transformer.wpe.weight"])


def test_nanecho_gpu_and_sharded_models_use_one_thread(two_cores: None, small_config: GPT2Config) -> None:
    model = GPT2(small_config)
    assert thread_count(model, CPU, sharded=False) == 2
    assert thread_count(model, CPU, sharded=True) == 1
    assert thread_count(model, torch.device("cuda"), sharded=False) == 1
    nanecho = new_model(NanEchoConfig(vocab_size=257, n_embd=16, n_head=2, n_layer=2, block_size=16))
    assert thread_count(nanecho, CPU, sharded=False) == 1
