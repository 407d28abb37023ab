"""One training step: forward and backward pass, gradient clipping, and the optimizer step."""

import hashlib
import math
import warnings

import torch
from torch import Tensor

from ..model.gpt2 import GPT2
from ..native.gpt2 import NativeGPT2
from ..native.models import native_model
from .batches import Batches
from .compile import compiled_loss
from .distributed.sharding import whole
from .run import Loss, Run


class Stepper:
    """Computes the steps of `run`."""

    def __init__(self, run: Run, batches: Batches) -> None:
        self._run, self._batches = run, batches
        self._loss: Loss = run.model.loss
        self._native: NativeGPT2 | None = None
        self._parameters: dict[str, Tensor] = {}  # by name, with the gradients that the native kernels write
        self._gradients: dict[str, Tensor] = {}
        if run.by_native:
            computed = native_model(run.model, run.precision.dtype)
            if isinstance(computed, NativeGPT2):
                self._native = computed
            else:
                self._loss = computed.loss
        if self._native:
            self._parameters = dict(run.model.named_parameters())
            self._gradients = {name: torch.empty_like(p) for name, p in self._parameters.items()}

    def compile(self) -> None:
        """Compile the loss by running it once on the next batch. Call it again when the batch size changes.

        Compiler errors propagate.
        """
        assert isinstance(self._run.model, GPT2)
        self._loss = compiled_loss(self._run.model)
        with warnings.catch_warnings(action="ignore"):  # they are for PyTorch's developers
            self._backward()
        self.forget()

    def use_eager(self) -> None:
        """Compute the loss eagerly again, and drop the gradients of a failed compilation."""
        self._loss = self._run.model.loss
        self.forget()

    def forget(self) -> None:
        """Discard all gradients."""
        self._run.optimizer.zero_grad()

    def gradients(self) -> Tensor:
        """Compute the gradient of the mean loss over this process's sequences. Returns that loss, a scalar.

        Out-of-memory errors propagate and leave partial gradients: call `forget` after one.
        """
        run = self._run
        run.advance()
        total = torch.zeros((), device=run.precision.device)
        for number in range(run.settings.gradient_accumulation):
            total += self._backward_natively(self._native, accumulate=number > 0) if self._native else self._backward()
            run.sequences_seen += run.settings.batch_size
        return total

    def update(self) -> Tensor:
        """Clip the gradients and take an optimizer step. Returns the gradient norm before clipping, a scalar.

        If float16 gradients overflowed, the step is skipped and the norm is 0.
        """
        run = self._run
        limit, norm = run.settings.grad_clip or math.inf, run.optimizer.gradient_norm()
        if run.by_native:
            run.optimizer.step(min(1.0, limit / (norm.item() + 1e-6)))
            return norm
        scale, unscale = run.loss_scale, 1.0
        if scale:
            norm, unscale = norm / scale.factor, 1 / scale.factor
            finite = math.isfinite(whole(norm))
            reduced = None if finite else scale.after_overflow()
            run.loss_scale = reduced or scale.after_step()
            if reduced:
                return torch.zeros_like(whole(norm))
        # on a CPU skip a pass over all gradients; on a GPU reading the norm would synchronise
        if norm.device.type != "cpu" or bool(norm > limit):
            run.optimizer.clip_gradients(limit / unscale, norm / unscale)
        run.optimizer.step(unscale)
        return whole(norm)

    def _share(self) -> tuple[int, int]:
        """The position in the stream and the number of this process's sequences of the next batch."""
        run = self._run
        share = run.settings.batch_size // run.process_group.world_size
        return run.sequences_seen + run.process_group.rank * share, share

    def _backward(self) -> Tensor:
        """Accumulate the gradient of this process's sequences. Returns their loss. Both are weighted for the step's mean."""
        run, (position, share) = self._run, self._share()
        ids, targets = self._batches.at(position, share, run.step)
        weight = share * run.process_group.world_size / run.settings.sequences_per_step
        torch.manual_seed(_dropout_seed(run.stream_seed, position) % (1 << 56))
        with run.precision.autocast():
            loss = self._loss(self._on_device(ids), self._on_device(targets)) * weight
        scaled = loss * run.loss_scale.factor if run.loss_scale else loss
        scaled.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _backward_natively(self, model: NativeGPT2, accumulate: bool) -> Tensor:
        """`_backward` by native kernels. With `accumulate`, gradients are added to those before."""
        run, (position, share) = self._run, self._share()
        ids, targets = self._batches.at(position, share, run.step)
        weight = run.process_group.world_size / (run.settings.sequences_per_step * run.model.config.block_size)
        seeds = [_dropout_seed(run.stream_seed, position + index) for index in range(share)]
        losses = model.gradients(ids, targets, weight, self._gradients, accumulate, seeds)
        for name, p in self._parameters.items():
            p.grad = self._gradients[name]
        return losses.sum() * weight

    def _on_device(self, ids: Tensor) -> Tensor:
        device = self._run.precision.device
        return ids.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else ids


def _dropout_seed(stream_seed: int, position: int) -> int:
    """A seed in [0, 2**64). Dropout is a function of it, so there is no random state to save."""
    return int.from_bytes(hashlib.blake2b(f"dropout {stream_seed} {position}".encode(), digest_size=8).digest())
