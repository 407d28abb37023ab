"""One training step: forward and backward pass, gradient clipping, and the optimizer step."""

import hashlib
import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.dropout import dropout_seed
from ..model.gpt2 import GPT2
from .batches import Batches
from .compile import compiled_loss
from .cpu.replicas import Replicas
from .cpu.threads import Threads
from .distributed.sharding import whole
from .optim.param_groups import Part
from .run import Loss, Run


@dataclass(frozen=True)
class _Sequences:
    """Inputs and targets, each (count, block_size), the stream position of the first sequence, and the loss function."""

    position: int
    ids: Tensor
    targets: Tensor
    loss: Loss


class Stepper:
    """Computes the steps of `run` with one thread for each part of its optimizer."""

    def __init__(self, run: Run, batches: Batches, threads: Threads) -> None:
        self._run, self._batches, self._threads = run, batches, threads
        self._replicas: Replicas | None = None
        self._losses: list[Loss] = [run.model.loss]  # one per thread
        if threads.count > 1:
            assert isinstance(run.model, GPT2)
            self._replicas = Replicas(run.model, run.precision.dtype, run.optimizer.parts, run.kernels == "native")
            self._losses = self._replicas.losses

    def compile(self) -> None:
        """Compile the loss by running it once on the next batch. Call it again when the batch size changes.

        Compiler errors propagate.
        """
        assert isinstance(self._run.model, GPT2)
        self._losses = [compiled_loss(self._run.model)]
        with warnings.catch_warnings(action="ignore"):  # they are for PyTorch's developers
            self._threads.map(self._backward, self._sequences())
        self.forget()

    def use_eager(self) -> None:
        """Compute the loss eagerly again, and drop the gradients of a failed compilation."""
        self._losses = [self._run.model.loss]
        self.forget()

    def forget(self) -> None:
        """Discard all gradients."""
        self._run.optimizer.zero_grad()
        if self._replicas:
            self._replicas.forget()

    def reload_weights(self) -> None:
        """Continue with the weights of the model, which were changed by something else than a step."""
        if self._replicas:
            self._threads.map(self._replicas.broadcast, self._run.optimizer.parts)

    def gradients(self) -> Tensor:
        """Compute the gradient of the mean loss over this process's sequences. Returns that loss, a scalar.

        Out-of-memory errors propagate and leave partial gradients: call `forget` after one.
        """
        run, settings = self._run, self._run.settings
        run.model.advance(run.step)
        total = torch.zeros((), device=run.precision.device)
        for _ in range(settings.gradient_accumulation):
            for loss in self._threads.map(self._backward, self._sequences()):
                total += loss
            if self._replicas:
                self._threads.map(self._replicas.reduce, run.optimizer.parts)
            run.sequences_seen += settings.batch_size
        return total

    def update(self) -> Tensor:
        """Clip the gradients and take an optimizer step. Returns the gradient norm before clipping, a scalar.

        If float16 gradients overflowed, the step is skipped and the norm is 0.
        """
        run = self._run
        clip, parts = run.settings.grad_clip or math.inf, run.optimizer.parts
        norms = self._threads.map(Part.gradient_norm, parts)
        norm = norms[0] if len(norms) == 1 else torch.nn.utils.get_total_norm(norms)
        scale = run.loss_scale
        if scale:
            norm = norm / scale.factor
            finite = math.isfinite(whole(norm))
            reduced = None if finite else scale.after_overflow()
            run.loss_scale = reduced or scale.after_step()
            if reduced:
                return torch.zeros_like(whole(norm))
        # on a CPU skip a pass over all gradients; on a GPU reading the norm would synchronise
        clips = norm.device.type != "cpu" or bool(norm > clip)

        def step(part: Part) -> None:
            if scale:
                part.scale_gradients(1 / scale.factor)
            if clips:
                torch.nn.utils.clip_grads_with_norm_(part.parameters, clip, norm)
            part.step()
            if self._replicas:
                self._replicas.broadcast(part)

        self._threads.map(step, parts)
        return whole(norm)

    def _sequences(self) -> list[_Sequences]:
        """This process's share of the next batch, divided over the threads."""
        run = self._run
        share = run.settings.batch_size // run.process_group.world_size
        position = run.sequences_seen + run.process_group.rank * share
        ids, targets = self._batches.at(position, share)
        size = -(-share // self._threads.count)
        return [
            _Sequences(position + cut, ids[cut : cut + size], targets[cut : cut + size], loss)
            for cut, loss in zip(range(0, share, size), self._losses, strict=False)  # a batch of one uses one thread
        ]

    def _backward(self, part: _Sequences) -> Tensor:
        """Accumulate the gradient of these sequences and return their loss, both weighted for the mean over the step."""
        run = self._run
        share = len(part.ids) * run.process_group.world_size / run.settings.sequences_per_step
        # dropout is a function of the seed and the position, so there is no random state to save
        key = f"dropout {run.stream_seed} {part.position}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest())
        with dropout_seed(seed, single_threaded=self._threads.count == 1), run.precision.autocast():
            loss = part.loss(self._on_device(part.ids), self._on_device(part.targets)) * share
        scaled = loss * run.loss_scale.factor if run.loss_scale else loss
        scaled.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _on_device(self, ids: Tensor) -> Tensor:
        device = self._run.precision.device
        return ids.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else ids
