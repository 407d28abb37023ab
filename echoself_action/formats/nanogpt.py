"""nanoGPT's `ckpt.pt` (github.com/karpathy/nanoGPT, train.py and model.py): read and converted to our names.

nanoGPT stores matrices as nn.Linear does; biases may be absent; the GELU is exact; the head is tied.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial

from ..model.config import GPT2Config
from .arithmetic import stated_arithmetic
from .detect_layout import number
from .gpt2_tensors import gpt2_weights, logits, transposed
from .imported_model import ImportedModel
from .optimizer_state import nanogpt_groupings, read_optimizer, stored_optimizer
from .recorded_config import configs_in_file, training_settings
from .torch_file.reader import TorchFile

_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_UNTRAINED = 1e9  # best_val_loss of a run that was never evaluated


def read(file: TorchFile, n_head: int | None = None) -> ImportedModel:  # noqa: ARG001  # model_args always has it
    """Convert the checkpoint, with all tensors checked against `model_args`.

    Raises CheckpointError if the file contradicts itself, or contains NaN or infinity.
    """
    content = file.content
    config = _config(file, content["model_args"])
    arithmetic = stated_arithmetic(file, configs_in_file(file), asdict(config))
    config = replace(
        config,
        activation=arithmetic.activation or config.activation,
        layer_norm_epsilon=arithmetic.layer_norm_epsilon or config.layer_norm_epsilon,
    )
    weights = gpt2_weights(file, config, True, "its model_args")
    kept = training_settings(content.get("config"))
    state = read_optimizer(file, stored_optimizer(content), weights, nanogpt_groupings(weights))
    step = content["iter_num"]
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 1 << 53:
        file.refuse("has an iter_num that is not a valid step count")
    loss = number(content.get("best_val_loss"))
    return ImportedModel(
        file.origin,
        config,
        transposed(weights),
        partial(logits, config, weights, True),
        transposed(state.moments),
        step,
        None if loss == _UNTRAINED else loss,
        kept | state.settings,
        optimizer_notes=state.notes,
    )


def _config(file: TorchFile, args: object) -> GPT2Config:
    if not isinstance(args, Mapping):
        file.refuse("has model_args that are not a dict")
    sizes = {name: value for name in _SIZES if type(value := args.get(name)) is int and value > 0}
    if missing := [name for name in _SIZES if name not in sizes]:
        file.refuse(f"has no positive integer for {', '.join(missing)} in its model_args")
    if sizes["n_embd"] % sizes["n_head"]:
        file.refuse(f"records n_embd={sizes['n_embd']}, which is not divisible by n_head={sizes['n_head']}")
    bias, dropout = args.get("bias", True), number(args.get("dropout", 0.0))
    if type(bias) is not bool or dropout is None or not 0 <= dropout < 1:
        file.refuse("has an invalid bias or dropout in its model_args")
    if sizes["n_layer"] > len(file.weights):  # checked before anything is allocated for each layer
        file.refuse(f"records n_layer={sizes['n_layer']}, but has only {len(file.weights)} tensors")
    return GPT2Config(**sizes, dropout=dropout, bias=bias, activation="gelu")
