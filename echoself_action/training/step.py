"""One step of a run: the gradients of its sequences, and what the optimizer makes of them."""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.dropout import drawn_from
from .batches import Batches
from .optimizer import Part
from .run import Run
from .sharding import whole
from .threads import Threads


@dataclass(frozen=True)
class _Sequences:
    """Tokens (count, block_size) and their targets; `position` is the first one's in the run."""

    position: int
    ids: Tensor
    targets: Tensor


class Stepper:
    """Takes the steps of `run` with `threads`, as many as its optimizer has parts."""

    def __init__(self, run: Run, batches: Batches, threads: Threads) -> None:
        self._run, self._batches, self._threads = run, batches, threads

    def gradients(self) -> Tensor:
        """Put into the parameters the gradient of the mean loss of this process's sequences; gives that loss, a scalar.

        What is raised for want of memory is let through; the gradients are then of a part of the sequences.
        """
        run, settings = self._run, self._run.settings
        run.model.advance(run.step)
        total = torch.zeros((), device=run.precision.device)
        for number in range(settings.gradient_accumulation):
            # two threads add theirs as it happens, which is the same either way where there is nothing yet
            before = self._taken() if number and self._threads.count > 1 else {}
            for loss in self._threads.map(self._backward, self._sequences()):
                total += loss
            for parameter, gradient in before.items():
                parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)
            run.sequences_seen += settings.batch_size
        return total

    def update(self) -> Tensor:
        """Have the optimizer take its step with the gradients, clipped; gives their norm before that, a scalar."""
        clip, parts = self._run.settings.grad_clip or math.inf, self._run.optimizer.parts
        norms = self._threads.map(Part.gradient_norm, parts)
        norm = norms[0] if len(norms) == 1 else torch.nn.utils.get_total_norm(norms)
        # to read a number makes a GPU wait, and spares a CPU a pass over all gradients
        clips = norm.device.type != "cpu" or bool(norm > clip)

        def step(part: Part) -> None:
            if clips:
                torch.nn.utils.clip_grads_with_norm_(part.parameters, clip, norm)
            part.step()

        self._threads.map(step, parts)
        return whole(norm)

    def _sequences(self) -> list[_Sequences]:
        """This process's share of the next batch, for each thread its part."""
        run = self._run
        share = run.settings.batch_size // run.team.size
        position = run.sequences_seen + run.team.rank * share
        ids, targets = self._batches.at(position, share)
        size = -(-share // self._threads.count)
        cuts = range(0, share, size)
        return [_Sequences(position + cut, ids[cut : cut + size], targets[cut : cut + size]) for cut in cuts]

    def _backward(self, part: _Sequences) -> Tensor:
        """Add its gradient, and give its loss, both as shares of the step's mean."""
        run, device = self._run, self._run.precision.device
        share = len(part.ids) * run.team.size / run.settings.sequences_per_step
        # dropout is a function of where the run stands, so there is no random state to save
        key = f"dropout {run.settings.seed} {part.position}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest())
        with drawn_from(seed, alone=self._threads.count == 1), run.precision.autocast():
            loss = run.model.loss(part.ids.to(device), part.targets.to(device)) * share
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _taken(self) -> dict[Tensor, Tensor]:
        """The gradients so far, which the parameters then have no longer."""
        taken: dict[Tensor, Tensor] = {p: p.grad for p in self._run.model.parameters() if p.grad is not None}
        self._run.optimizer.zero_grad()
        return taken
