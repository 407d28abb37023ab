"""One step of a run: the gradients of its sequences, and what the optimizer makes of them."""

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
    """Tokens (count, block_size) and their targets; `position` is the first one's in the run, `loss` computes theirs."""

    position: int
    ids: Tensor
    targets: Tensor
    loss: Loss


class Stepper:
    """Takes the steps of `run` with `threads`, as many as its optimizer has parts."""

    def __init__(self, run: Run, batches: Batches, threads: Threads) -> None:
        self._run, self._batches, self._threads = run, batches, threads
        self._replicas: Replicas | None = None
        self._losses: list[Loss] = [run.model.loss]  # one for each thread
        if threads.count > 1:
            assert isinstance(run.model, GPT2)
            self._replicas = Replicas(run.model, run.precision.dtype, run.optimizer.parts, run.kernels == "native")
            self._losses = self._replicas.losses

    def compile(self) -> None:
        """Compile the loss by computing it once for the next sequences; again when their number changes.

        Compiler errors propagate.
        """
        assert isinstance(self._run.model, GPT2)
        self._losses = [compiled_loss(self._run.model)]
        with warnings.catch_warnings(action="ignore"):  # meant for PyTorch's developers
            self._threads.map(self._backward, self._sequences())
        self.forget()

    def leave_uncompiled(self) -> None:
        """Compute the loss eagerly again, and drop the gradients of a failed compilation."""
        self._losses = [self._run.model.loss]
        self.forget()

    def forget(self) -> None:
        """Leave out the gradients that there are."""
        self._run.optimizer.zero_grad()
        if self._replicas:
            self._replicas.forget()

    def gradients(self) -> Tensor:
        """Put into the parameters the gradient of the mean loss of this process's sequences; gives that loss, a scalar.

        What is raised for want of memory is let through; the gradients are then of a part of the sequences, until `forget`.
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
        """Have the optimizer take its step with the gradients, clipped; gives their norm before that, a scalar.

        Where the loss was scaled up too far for float16 no step is taken, and the norm is 0.
        """
        run = self._run
        clip, parts = run.settings.grad_clip or math.inf, run.optimizer.parts
        norms = self._threads.map(Part.gradient_norm, parts)
        norm = norms[0] if len(norms) == 1 else torch.nn.utils.get_total_norm(norms)
        scale = run.loss_scale
        if scale:
            norm = norm / scale.factor
            finite = math.isfinite(whole(norm))
            smaller = None if finite else scale.after_overflow()
            run.loss_scale = smaller or scale.after_step()
            if smaller:
                return torch.zeros_like(whole(norm))
        # to read a number makes a GPU wait, and spares a CPU a pass over all gradients
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
        """This process's share of the next batch, for each thread its part."""
        run = self._run
        share = run.settings.batch_size // run.process_group.world_size
        position = run.sequences_seen + run.process_group.rank * share
        ids, targets = self._batches.at(position, share)
        size = -(-share // self._threads.count)
        return [
            _Sequences(position + cut, ids[cut : cut + size], targets[cut : cut + size], loss)
            for cut, loss in zip(range(0, share, size), self._losses, strict=False)  # one sequence leaves a thread without
        ]

    def _backward(self, part: _Sequences) -> Tensor:
        """Add its gradient, and give its loss, both as shares of the step's mean."""
        run = self._run
        share = len(part.ids) * run.process_group.world_size / run.settings.sequences_per_step
        # dropout is a function of where the run stands, so there is no random state to save
        key = f"dropout {run.settings.seed} {part.position}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest())
        with dropout_seed(seed, single_threaded=self._threads.count == 1), run.precision.autocast():
            loss = part.loss(self._on_device(part.ids), self._on_device(part.targets)) * share
        scaled = loss * run.loss_scale.factor if run.loss_scale else loss
        scaled.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _on_device(self, ids: Tensor) -> Tensor:
        device = self._run.precision.device
        return ids.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else ids
