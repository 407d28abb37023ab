"""How fast this machine trains: the FLOP/s of a few real steps, rounded so that machines of a kind agree."""

import math
import time
from typing import Any

import numpy as np

from ..checkpoint.architectures import Architecture
from ..corpus.make_tokenizer import make_tokenizer
from ..corpus.tokens import Tokens
from ..model.config import GPT2Config
from .init_or_resume import new_run
from .precision import choose_device
from .run import Data
from .settings import TrainingSettings
from .train_step import Stepper

_SECONDS = 1.0  # of steps; the first ones, which also set up memory, are not counted
_WARM_UP = 2
_CPU = {"n_layer": 4, "n_head": 4, "n_embd": 256, "block_size": 128}
_GPU = {"n_layer": 8, "n_head": 8, "n_embd": 512, "block_size": 256}
_VOCABULARY = 1024


def flops_per_second(architecture: Architecture, settings: TrainingSettings, dropout: float) -> float:
    """The FLOP/s of training a small model as `settings` train it, as a power of two.

    The FLOPs are those of a GPT-2 of the same sizes; a NanEcho takes longer for them.
    """
    on_gpu = choose_device(settings).type == "cuda"
    shape: dict[str, Any] = {**(_GPU if on_gpu else _CPU), "vocab_size": _VOCABULARY, "dropout": dropout}
    options = dict.fromkeys(architecture.own_inputs)
    config = architecture.config.new_config({**shape, "bias": True}, options, 1000)
    own = {"batch_size": 64 if on_gpu else 8, "gradient_accumulation": 1, "compile": "false", "phases": None}
    settings = settings.model_copy(update=own)
    run = new_run(config, Data(_random_tokens(), []), settings)
    tokens_per_step = settings.batch_size * config.block_size
    stepper = Stepper(run, run.batches())
    run.model.train()
    for _ in range(_WARM_UP):
        _step(stepper)
    began, steps = time.monotonic(), 0
    while time.monotonic() - began < _SECONDS:
        _step(stepper)
        steps += 1
    seconds = time.monotonic() - began
    flops = steps * tokens_per_step * GPT2Config(**shape).flops_per_token()
    return float(2.0 ** round(math.log2(flops / seconds)))


def _step(stepper: Stepper) -> None:
    stepper.gradients()
    float(stepper.update())  # waits for a GPU
    stepper.forget()


def _random_tokens() -> Tokens:
    ids = np.random.default_rng(0).integers(0, _VOCABULARY, 1 << 16).astype(np.uint16)
    tokenizer = make_tokenizer("bytes", lambda: iter(()))
    unknown = dict.fromkeys(("bytes_train", "bytes_val", "leaked_bytes", "leaked_paragraphs", "common_bytes", "val_fraction"))
    return Tokens(ids, ids, "", "", tokenizer, documents=1, val_documents=1, reused=False, findings=(), **unknown)
