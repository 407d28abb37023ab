"""Which GELU a checkpoint was trained with, of the two whose tensors are the same.

What its settings state decides. Otherwise the input `activation` does, then a config beside the file, then the program and the
time that its keys show. All but the first are assumptions, which log, metadata and model card state.
"""

from collections.abc import Mapping
from typing import Any

from ..model.config import Activation
from .arithmetic import Arithmetic
from .gpt2_tensors import BUFFERS
from .imported_model import Given
from .recorded_config import SIZE_NAMES, RecordedConfig
from .torch_file.reader import TorchFile

_NAMES: Mapping[Activation, str] = {"gelu": "the exact GELU (gelu)", "gelu_new": "the tanh form of GELU (gelu_new)"}
_OTHER: Mapping[Activation, Activation] = {"gelu": "gelu_new", "gelu_new": "gelu"}


def choose_activation(
    file: TorchFile, given: Given, stated: Arithmetic, beside: Arithmetic, likely: tuple[Activation, str]
) -> tuple[Activation, tuple[str, ...]]:
    """The activation, and what was assumed. `likely` is the guess by the keys of the file, with its reason.

    Raises CheckpointError if the input contradicts the file.
    """
    if stated.activation:
        if given.activation not in (None, stated.activation):
            file.refuse(
                f"records {_NAMES[stated.activation]} in {stated.where}, but activation: {given.activation} was given",
                "Leave activation out.",
            )
        return stated.activation, ()
    if given.activation:
        return given.activation, (_assumption(given.activation, "as the input activation says"),)
    chosen, why = (beside.activation, f"as {beside.where} says") if beside.activation else likely
    return chosen, (_assumption(chosen, f"{why}. If that is wrong, import it again with activation: {_OTHER[chosen]}"),)


def _assumption(activation: Activation, why: str) -> str:
    return f"the file does not record its activation function; assumed: {_NAMES[activation]}, {why}"


def of_nanogpt(file: TorchFile, args: Mapping[Any, Any]) -> tuple[Activation, str]:
    """That of nanoGPT's model.py, by the time of the file.

    model.py computed the tanh form until June 2023 (commit 594068e of 2023-05-17, merged as f08abb4 on 2023-06-14). `bias` is
    in model_args since 2023-01-27. The mask is a buffer of every file until 2023-01-30, and later of those from PyTorch 1 or,
    for some weeks, of models with dropout. Since 2023-05-06 AdamW's first group has the embeddings, too.
    """
    if "bias" not in args:
        return "gelu_new", "because its model_args have no `bias`, as in nanoGPT before February 2023, which computed it"
    first_group = _first_group(file.content.get("optimizer"))
    layers = args.get("n_layer")
    if isinstance(layers, int) and first_group == 4 * layers:
        return "gelu_new", "because its optimizer has the groups of nanoGPT before May 2023, which computed it"
    if _has_masks(file) and not (isinstance(layers, int) and first_group == 4 * layers + 2):
        return "gelu_new", "because it holds attention masks, as files of nanoGPT before June 2023, which computed it"
    return "gelu", "because nanoGPT computes it since June 2023, and nothing in the file is of an older version"


def of_state_dict(file: TorchFile, linear: bool, configs: list[RecordedConfig]) -> tuple[Activation, str]:
    """That of the program which writes such files, for a GPT-2 whose layout is not nanoGPT's."""
    if not linear:
        return "gelu_new", "because its matrices are stored as those of OpenAI's GPT-2 and Transformers, which compute it"
    fields = next(({str(key) for key in one.values} for one in configs if one.of_model and one.size("n_layer")), set())
    if fields and fields <= SIZE_NAMES:
        return "gelu_new", "because its config has the fields of build-nanogpt's, which computes it"
    if any("pdrop" in field for field in fields):
        return "gelu_new", "because its config has the fields of minGPT's, which computes it"
    if "dropout" in fields and "bias" not in fields:
        return "gelu_new", "because its config has the fields of nanoGPT's before February 2023, which computed it"
    if _has_masks(file):
        return (
            "gelu_new",
            "because it holds attention masks, as files of minGPT and of nanoGPT before June 2023, which compute it",
        )
    if not any(name.endswith(".bias") for name in file.weights):
        return "gelu", "because only nanoGPT stores a GPT-2 without biases"
    return "gelu", "because its matrices are stored as nanoGPT's, which computes it since June 2023"


def _has_masks(file: TorchFile) -> bool:
    return any(name.endswith(BUFFERS) for name in file.weights)


def _first_group(optimizer: object) -> int | None:
    """The number of parameters in the first group of an optimizer's state dict, None if it has no such list."""
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    first = groups[0] if isinstance(groups, list) and groups else None
    parameters = first.get("params") if isinstance(first, Mapping) else None
    return len(parameters) if isinstance(parameters, list) else None
