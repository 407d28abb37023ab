"""nanoGPT's `ckpt.pt` (github.com/karpathy/nanoGPT, train.py and model.py): read and converted to our names.

nanoGPT stores matrices as nn.Linear does; biases may be absent; the GELU is exact since June 2023; the head is tied.
"""

from collections.abc import Mapping
from functools import partial

from ..model.config import GPT2Config
from .activation import choose_activation, of_nanogpt
from .arithmetic import stated_arithmetic
from .detect_layout import count, number
from .gpt2_tensors import gpt2_weights, inferred_sizes, logits, tensors_by_gpt2_name, transposed
from .imported_model import CONTRADICTION, NOTHING_GIVEN, Given, ImportedModel
from .optimizer_state import nanogpt_groupings, read_optimizer, stored_optimizer
from .recorded_config import RecordedConfig, configs_beside, configs_in_file, training_settings
from .torch_file.reader import TorchFile

_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_CORRECT = "`c = torch.load(path)`, change c, `torch.save(c, other_path)`."
_UNTRAINED = 1e9  # best_val_loss of a run that was never evaluated


def read(file: TorchFile, given: Given = NOTHING_GIVEN) -> ImportedModel:
    """Convert the checkpoint, with all tensors checked against `model_args`.

    Raises CheckpointError if the file contradicts itself, or contains NaN or infinity.
    """
    content = file.content
    config, assumptions = _config(file, content["model_args"], given)
    weights = gpt2_weights(file, config, True, "its model_args")
    kept = training_settings(content.get("config"))
    state = read_optimizer(file, stored_optimizer(content), weights, nanogpt_groupings(weights))
    step = count(content.get("iter_num", 0))
    if step is None:
        file.refuse("has an iter_num that is not a valid step count", f"Set it to the number of steps: {_CORRECT}")
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
        remarks=() if "iter_num" in content else ("it records no step: steps count from 0",),
        optimizer_notes=state.notes,
        assumptions=assumptions,
    )


def _config(file: TorchFile, args: object, given: Given) -> tuple[GPT2Config, tuple[str, ...]]:
    """The config of `args`, and what was assumed."""
    if not isinstance(args, Mapping):
        file.refuse(
            "has model_args that are not a dict", "Save the arguments of its GPTConfig as a dict, as nanoGPT's train.py does."
        )
    recorded = RecordedConfig("its model_args", args)
    sizes = {name: value for name in _SIZES if (value := recorded.size(name))}
    if wrong := [name for name in _SIZES if args.get(name) is not None and name not in sizes]:
        file.refuse(f"has no positive integer for {', '.join(wrong)} in its model_args", f"Correct it: {_CORRECT}")
    if len(sizes) < len(_SIZES):  # as the vocabulary in early versions
        sizes = {"n_head": given.n_head or 0} | inferred_sizes(file, tensors_by_gpt2_name(file)) | sizes
    if not sizes["n_head"]:
        file.refuse("does not record the number of attention heads (n_head) in its model_args", "Give n_head.")
    if sizes["n_embd"] % sizes["n_head"]:
        file.refuse(f"records n_embd={sizes['n_embd']}, which is not divisible by n_head={sizes['n_head']}", CONTRADICTION)
    if given.n_head not in (None, sizes["n_head"]):
        file.refuse(
            f"records n_head={sizes['n_head']} in its model_args, but n_head: {given.n_head} was given", "Leave n_head out."
        )
    bias, dropout = args.get("bias", True), number(args.get("dropout", 0.0))
    if type(bias) is not bool or dropout is None or not 0 <= dropout < 1:
        file.refuse(
            "has an invalid bias or dropout in its model_args",
            f"bias is True or False, and dropout at least 0 and below 1: {_CORRECT}",
        )
    if sizes["n_layer"] > len(file.weights):  # checked before anything is allocated for each layer
        file.refuse(f"records n_layer={sizes['n_layer']}, but has only {len(file.weights)} tensors", CONTRADICTION)
    beside = [place for place in configs_beside(file.path) if place.agrees(sizes)]
    stated, nearby = (stated_arithmetic(file, places, sizes) for places in (configs_in_file(file), beside))
    activation, assumptions = choose_activation(file, given, stated, nearby, of_nanogpt(file, args))
    epsilon = stated.layer_norm_epsilon or nearby.layer_norm_epsilon or 1e-5
    return GPT2Config(**sizes, dropout=dropout, bias=bias, activation=activation, layer_norm_epsilon=epsilon), assumptions
