"""Is the folder on disk the model? It is loaded with stock transformers, and its logits are compared with ours."""

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

TOLERANCE = 1e-4  # max |delta logits| in fp32
_TIE = 1e-5  # of two logits that float noise may rank either way


@torch.no_grad()
def check_parity(folder: ModelFolder, source: Callable[[Tensor], Tensor] | None = None) -> ParityFacts:
    """Compare transformers' reading of `folder` with `source` (default: our own reading of it) on fixed ids.

    `source` gives logits (batch, length, vocab_size) for token ids (batch, length).

    Two tokens within float noise of each other are both ranked first. Raises CheckpointError where a tensor is missing,
    unexpected or of another shape, or the logits differ.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    notes = io.StringIO()
    try:
        with contextlib.redirect_stderr(notes), loadable(folder) as place:
            result: Any = AutoModelForCausalLM.from_pretrained(
                place,
                output_loading_info=True,
                local_files_only=True,
                dtype=torch.float32,
                trust_remote_code=place != folder.path,  # then it is our own
            )
    except Exception as error:  # a config.json may ask transformers for anything: a quantizer, a package that is not there
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise CheckpointError(f"transformers does not load {folder.path} whole: {told}. It was not used.") from error
    stock, info = result
    odd = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
    files = folder.architecture.config
    with safe_open(folder.path / WEIGHTS_FILE, "pt") as file:
        stored = files.stored_names(file.keys()).keys() - files.TIED.keys()  # which files have or leave out
    loaded = set(stock.state_dict()) - files.TIED.keys()
    if loaded != stored:
        odd |= {"not_loaded": sorted(stored - loaded), "not_stored": sorted(loaded - stored)}
    if odd:
        raise CheckpointError(f"transformers does not load {folder.path} whole: {odd}. It was not used.")
    expect = source or load_model(folder).eval().logits
    generator = torch.Generator().manual_seed(0)
    shape = (4, min(folder.config.block_size, 256))
    ids = torch.randint(folder.config.vocab_size, shape, generator=generator)
    expected, found = expect(ids), stock.eval()(ids).logits
    first = expected.gather(-1, found.argmax(-1, keepdim=True)).squeeze(-1)
    parity = ParityFacts(
        tensors=len(loaded),
        max_abs_diff=(expected - found).abs().max().item(),
        argmax_agreement=(expected.amax(-1) - first <= _TIE).float().mean().item(),
        positions=ids.numel(),
    )
    if not (parity.max_abs_diff <= TOLERANCE and parity.argmax_agreement == 1):  # also refuses NaN
        raise CheckpointError(
            f"{folder.path} computes other logits in transformers than here: max |delta| {parity.max_abs_diff:.3g} "
            f"(at most {TOLERANCE:g}), top-1 agreement {parity.argmax_agreement:.2%}. It was not used."
        )
    return parity
