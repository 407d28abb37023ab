"""torch.compile on a GPU: whether it can be used, what is compiled, and what happens if compiling fails.

Compiled code rounds differently from PyTorch's own operations, so a checkpoint records whether the run was compiled. The
compiler is imported only if it is used, because importing it takes as long as importing PyTorch.
"""

import functools
import importlib.util
import os
import shutil
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import TrainingError, in_short
from ..model import Model
from ..model.cross_entropy import chunk_gradients, into_gradient, linear_cross_entropy
from ..model.gpt2 import GPT2
from .result import Callbacks
from .run import Loss, Run


def why_not(model: Model, device: torch.device, sharded: bool) -> str | None:
    """Why the model can't be compiled on this device; None if it can."""
    if device.type != "cuda":
        return "it needs a GPU (on a CPU it does not make training faster)"
    if not isinstance(model, GPT2):
        return "it needs architecture: gpt2"
    if sharded:
        return "it needs sharding: none"
    if importlib.util.find_spec("triton") is None or torch.cuda.get_device_capability(device)[0] < 7:
        return "it needs Triton and a GPU of compute capability 7.0 or higher"
    compiler = os.environ.get("CC")  # Triton compiles the code that launches its kernels
    if any(shutil.which(name) for name in ((compiler,) if compiler else ("gcc", "clang"))):
        return None
    return f"it needs a C compiler, and {compiler or 'gcc or clang'} is not on the PATH"


def compiled_loss(model: GPT2) -> Loss:
    """`model.loss` for training. The first call for each shape of the arguments compiles and may raise any compiler error."""
    trunk = torch.compile(model.transformer.from_embeddings, dynamic=False)
    gradients = functools.partial(chunk_gradients, into_gradient=torch.compile(into_gradient, dynamic=False))
    tokens = model.transformer.wte

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        x = trunk(tokens(ids)).flatten(0, 1)
        return linear_cross_entropy(x, tokens.weight, targets.flatten(), gradients=gradients)

    return loss


class Compiler:
    """Compiles the steps of a run, or falls back to eager execution. `seconds` is the time spent compiling.

    `compile` compiles the steps for the current batch size; `undo` restores eager steps.
    """

    def __init__(self, run: Run, compile: Callable[[], None], undo: Callable[[], None], callbacks: Callbacks) -> None:
        self._run, self._compile, self._undo, self._callbacks = run, compile, undo, callbacks
        self.seconds = 0.0

    def compile(self) -> None:
        """Compile the steps if the run is compiled: at its start, and again when the batch size changes.

        Raises TrainingError if compiling fails and `compile: true` was set.
        """
        run, failure = self._run, None
        if run.kernels != "compiled":
            return
        began = time.monotonic()
        try:
            self._compile()
        except Exception as error:
            failure = error
        self.seconds += time.monotonic() - began
        if not run.process_group.any(failure is not None)[0]:
            return
        self._undo()
        run.kernels = "eager"
        reason = in_short(failure) if failure else "it failed in another process"
        if run.settings.compile == "true":
            raise TrainingError(
                f"compile: true was set, and the model could not be compiled: {reason}. Training stopped at step {run.step}.",
                "Use compile: auto, which continues without compiling.",
            ) from failure
        self._callbacks.warn(f"The model could not be compiled: {reason}. Training continues without torch.compile.")
