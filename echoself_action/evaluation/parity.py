"""The parity check: stock transformers loads a model folder, and its logits are compared with ours."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM  # type: ignore[attr-defined,unused-ignore]
from transformers.utils import logging

from ..checkpoint.metadata import ParityFacts
from ..checkpoint.model_folder import WEIGHTS_FILE, ModelFolder, loadable
from ..checkpoint.weights import load_model
from ..errors import CheckpointError
from ..libraries import loading_code

TOLERANCE = 1e-4  # maximum absolute difference of the logits in fp32
_TIE = 1e-5  # logits that differ by less are equal up to rounding


@torch.no_grad()
def check_parity(folder: ModelFolder, source: Callable[[Tensor], Tensor] | None = None) -> ParityFacts:
    """Compare the logits of transformers for `folder` with those of `source` (default: our model) on fixed token ids.

    `source` computes logits (batch, length, vocab_size) from token ids (batch, length). For top-1 agreement, tokens
    whose logits are equal up to rounding both count as first. Raises CheckpointError if a tensor is missing, unexpected or of
    another shape, or if the logits differ.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with loading_code(), contextlib.redirect_stderr(io.StringIO()), loadable(folder) as place:
            result: Any = AutoModelForCausalLM.from_pretrained(
                place,
                output_loading_info=True,
                local_files_only=True,
                dtype=torch.float32,
                trust_remote_code=place != folder.path,  # a copy with our own code
            )
    except (
        Exception
    ) as error:  # a config.json may request anything of transformers: a quantizer, a package that is not installed
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise CheckpointError(f"transformers can't load {folder.path} completely: {reason}. It was not used.") from error
    stock, info = result
    problems = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
    architecture = folder.architecture.config
    with safe_open(folder.path / WEIGHTS_FILE, "pt") as file:
        stored = architecture.stored_names(file.keys()).keys() - architecture.TIED.keys()  # a tied tensor may be stored or not
    loaded = set(stock.state_dict()) - architecture.TIED.keys()
    if loaded != stored:
        problems |= {"not_loaded": sorted(stored - loaded), "not_stored": sorted(loaded - stored)}
    if problems:
        raise CheckpointError(f"transformers can't load {folder.path} completely: {problems}. It was not used.")
    compute = source or load_model(folder).eval().logits
    generator = torch.Generator().manual_seed(0)
    shape = (4, min(folder.config.block_size, 256))
    ids = torch.randint(folder.config.vocab_size, shape, generator=generator)
    expected, found = compute(ids), stock.eval()(ids).logits
    first = expected.gather(-1, found.argmax(-1, keepdim=True)).squeeze(-1)
    parity = ParityFacts(
        tensors=len(loaded),
        max_abs_diff=(expected - found).abs().max().item(),
        argmax_agreement=(expected.amax(-1) - first <= _TIE).float().mean().item(),
        positions=ids.numel(),
    )
    if not (parity.max_abs_diff <= TOLERANCE and parity.argmax_agreement == 1):  # also refuses NaN
        raise CheckpointError(
            f"{folder.path} has different logits in transformers than here: max |delta| {parity.max_abs_diff:.3g} "
            f"(maximum {TOLERANCE:g}), top-1 agreement {parity.argmax_agreement:.2%}. It was not used."
        )
    return parity
