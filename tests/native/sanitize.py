"""Runs all kernels, of sizes that leave a remainder everywhere: for a library that was compiled with sanitizers.

    python -m tests.native.sanitize

prints each instruction set whose kernels ran. `test_compilers.py` compiles the library, with LOGITS_AT_ONCE.
"""

import os
from dataclasses import replace
from typing import Any

import torch

from echoself_action import native
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.native import Memory, optimizer_steps
from echoself_action.native.gpt2 import NativeGPT2
from echoself_action.native.nanecho import NativeNanEcho
from tests.native import nanecho_reference
from tests.native.gpt2_reference import a_batch, a_model

ODD = GPT2Config(vocab_size=67, block_size=37, n_layer=2, n_head=5, n_embd=35, dropout=0.2)
CONFIGS = [
    ODD,
    replace(ODD, n_embd=64, n_head=2, block_size=64, activation="gelu_new", dropout=0.0),
    replace(ODD, n_embd=3, n_head=3, block_size=150, n_layer=1, bias=False),
    replace(ODD, n_embd=201, n_head=1, block_size=16, n_layer=1, vocab_size=1),
    replace(ODD, n_embd=9, n_head=1, block_size=5, n_layer=1, vocab_size=4999),
    replace(ODD, n_embd=300, n_head=2, block_size=3, n_layer=1),
]
LOGITS_AT_ONCE = 40_000  # a limit for the library, so that a small model has more
CHUNKS = replace(ODD, n_embd=3, n_head=1, block_size=50, n_layer=1, vocab_size=501)  # logits of at most 72 positions at a time
MATRICES = [(1, 1, 1), (1, 9, 1), (35, 105, 3), (64, 64, 1), (201, 35, 1), (35, 201, 1), (90, 77, 1)]


def run_gpt2(config: GPT2Config, sequences: int, length: int, dtype: torch.dtype) -> None:
    model, (ids, targets) = a_model(config), a_batch(config, sequences, length)
    gradients = {name: torch.empty_like(p) for name, p in model.named_parameters()}
    kernels = NativeGPT2(model, dtype)
    kernels.losses(ids, targets)
    for accumulate in (False, True):
        kernels.gradients(ids, targets, 1.0, gradients, accumulate, range(sequences))
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def run_nanecho(changes: dict[str, Any], length: int, dtype: torch.dtype) -> None:
    model = nanecho_reference.a_model(**changes)
    ids, targets = nanecho_reference.a_batch(length, model.config.vocab_size)
    native_model = NativeNanEcho(model, dtype)
    native_model.loss(ids, targets).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert native_model.losses(ids, targets).isfinite().all()


def run_optimizers(dtype: torch.dtype) -> None:
    for rows, columns, side_by_side in MATRICES:
        parameters, gradients = ([torch.randn(rows, columns) for _ in range(3)] for _ in range(2))
        momenta, coefficients = [torch.zeros(rows, columns) for _ in range(3)], [(3.4, -4.8, 2.0)] * 3
        optimizer_steps.muon(parameters, gradients, momenta, side_by_side, coefficients, 0.9, 0.1, 0.9, 1.0, dtype, Memory())
    tensors = [[torch.rand(size) for size in (1, 7, 33, 16384, 16385, 50_001)] for _ in range(4)]
    optimizer_steps.norm(tensors[0])
    optimizer_steps.adamw(*tensors, [1.0] * 6, 0.1, (0.9, 0.95), 1e-8, 0.1, 0.5)


def main() -> None:
    torch.set_num_threads(3)
    for isa in native._usable():
        os.environ["ECHOSELF_ISA"], dtype = isa, native.dtype_of(isa)
        for config in CONFIGS:
            run_gpt2(config, 3, config.block_size, dtype)
            run_gpt2(config, 1, max(1, config.block_size // 2 - 1), dtype)
        run_gpt2(CHUNKS, 2, 50, dtype)
        for changes in ({}, {"n_embd": 36, "n_head": 3, "vocab_size": 5000}, {"n_embd": 20, "n_head": 4, "bias": False}):
            for length in (1, 7, 77):
                run_nanecho({"dropout": 0.2, **changes}, length, dtype)
        run_optimizers(dtype)
        print(isa)


if __name__ == "__main__":
    main()
