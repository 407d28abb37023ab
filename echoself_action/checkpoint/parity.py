"""Is the folder on disk the model? It is loaded with stock transformers, and its logits are compared with ours."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .folder import ModelFolder

TOLERANCE = 1e-4  # max |delta logits| in fp32
_TIE = 1e-5  # of two logits that float noise may rank either way


@dataclass(frozen=True)
class Parity:
    """Largest difference of a logit, and the share of positions where both models rank the same token first.

    Two tokens within float noise of each other are both first.
    """

    max_abs_diff: float
    argmax_agreement: float
    positions: int


@torch.no_grad()
def check_parity(folder: ModelFolder, source: Callable[[Tensor], Tensor] | None = None) -> Parity:
    """Compare transformers' reading of `folder` with `source` (default: our own reading of it) on fixed ids.

    `source` gives logits (batch, length, vocab_size) for token ids (batch, length).

    Raises CheckpointError where a tensor is missing, unexpected or of another shape, or the logits differ.
    """
    # loading transformers takes seconds: only this check pays for it
    from transformers import AutoModelForCausalLM  # type: ignore[attr-defined,unused-ignore]
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    notes = io.StringIO()
    with contextlib.redirect_stderr(notes):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder.path, output_loading_info=True, local_files_only=True, dtype=torch.float32
        )
    stock, info = loaded
    odd = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
    if odd:
        raise CheckpointError(f"transformers does not load {folder.path} whole: {odd}. It was not used.")
    expect = source or folder.load_model().eval()
    generator = torch.Generator().manual_seed(0)
    shape = (4, min(folder.config.block_size, 256))
    ids = torch.randint(folder.config.vocab_size, shape, generator=generator)
    expected, found = expect(ids), stock.eval()(ids).logits
    first = expected.gather(-1, found.argmax(-1, keepdim=True)).squeeze(-1)
    parity = Parity(
        max_abs_diff=(expected - found).abs().max().item(),
        argmax_agreement=(expected.amax(-1) - first <= _TIE).float().mean().item(),
        positions=ids.numel(),
    )
    if not (parity.max_abs_diff <= TOLERANCE and parity.argmax_agreement == 1):  # also refuses NaN
        raise CheckpointError(
            f"{folder.path} computes other logits in transformers than here: max |delta| {parity.max_abs_diff:.3g} "
            f"(at most {TOLERANCE:g}), same first choice at {parity.argmax_agreement:.2%}. It was not used."
        )
    return parity
