"""The config.json of a GPT-2 in a folder of transformers: read as transformers reads it, or refused by the cause."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoint.gpt2_config import read_config
from ..checkpoint.model_folder import CONFIG_FILE
from ..errors import CheckpointError
from ..model.config import GPT2Config
from .recorded_config import read_json
from .torch_file.archive import refuse

ADAPTER_FILE = "adapter_config.json"
_LANGUAGE_MODELS = ("GPT2LMHeadModel", "GPT2Model")
_SAME_ACTIVATIONS = {
    "gelu_python": "gelu",
    **dict.fromkeys(("gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate"), "gelu_new"),
}
# What transformers assumes where a config.json lacks a size, and other names of a size that it accepts.
_DEFAULTS = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
_ALIASES = {
    "n_positions": "max_position_embeddings",
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
}


def read_pretrained_config(folder: Path) -> GPT2Config:
    """The config of the GPT-2 in `folder`. Raises CheckpointError if it is another model, or one that can't be computed."""
    return read_remarked_config(folder)[0]


def read_remarked_config(folder: Path) -> tuple[GPT2Config, tuple[str, ...]]:
    """The config, and what to remark about it. Raises as `read_pretrained_config`."""
    _refuse_adapter(folder)
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {CONFIG_FILE}, so it is not a model of transformers. It was not used.", _inside(folder)
        )
    values = read_json(path)
    if not values:
        refuse(path, "is not valid JSON")
    kind = values.get("model_type")
    if kind is None and values.get("architectures") == ["GPT2LMHeadModel"]:  # of 2019
        kind = "gpt2"
    if kind != "gpt2":
        raise CheckpointError(
            f"{path} describes a model of another architecture: model_type={kind!r:.60}. It was not used.",
            "Only GPT-2 models can be trained: use openai-community/gpt2, distilbert/distilgpt2, or another model whose "
            "config.json has model_type: gpt2.",
        )
    _refuse_other_model(path, values)
    sizes, remarks = _sizes(path, values)
    activation = values.get("activation_function", "gelu_new")
    if same := _SAME_ACTIVATIONS.get(activation) if isinstance(activation, str) else None:
        remarks.append(f"its activation_function {activation} is computed as {same}, which is the same formula")
        sizes["activation_function"] = same
    if values.get("reorder_and_upcast_attn"):
        remarks.append("its reorder_and_upcast_attn is not kept: it changes nothing in float32")
    rates = {name: values[name] for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop") if name in values}
    if len(set(map(str, rates.values()))) > 1:
        shown = ", ".join(f"{name}={rate!r:.20}" for name, rate in rates.items())
        remarks.append(f"its dropout rates differ ({shown}), and this program has one for all: that of resid_pdrop")
    # a head of its own is compared with the embedding when the weights are read
    return read_config(path, values | sizes | {"model_type": "gpt2", "tie_word_embeddings": True}), tuple(remarks)


def _refuse_adapter(folder: Path) -> None:
    if not (folder / ADAPTER_FILE).is_file():
        return
    adapter = read_json(folder / ADAPTER_FILE)
    raise CheckpointError(
        f"{folder} has an adapter of PEFT ({ADAPTER_FILE}: {adapter.get('peft_type')!r:.40}), which changes the weights of "
        f"another model, {adapter.get('base_model_name_or_path')!r:.100}. It was not used.",
        "Merge the two, and use the merged folder: model = AutoPeftModelForCausalLM.from_pretrained(folder); "
        "model.merge_and_unload().save_pretrained(merged), with the tokenizer of the other model beside it.",
    )


def _inside(folder: Path) -> str:
    """The hint for a folder without config.json: the checkpoints in it, if there are any."""
    found = [path for path in folder.glob("checkpoint-*") if (path / CONFIG_FILE).is_file()]
    if not found:
        return "Give a folder or a repo with config.json, weights and a tokenizer, as save_pretrained writes them."
    newest = max(found, key=lambda path: (len(path.name), path.name))
    return f"It contains checkpoints. Give one of them, for example {newest}."


def _refuse_other_model(path: Path, values: Mapping[str, Any]) -> None:
    """Raises CheckpointError for what transformers would not compute as a GPT2LMHeadModel of plain weights."""
    if values.get("quantization_config") is not None:
        raise CheckpointError(
            f"{path} describes quantized weights: quantization_config={values['quantization_config']!r:.80}. It was not used.",
            "Use the model that it was quantized from, or save it with model.dequantize() of transformers first.",
        )
    if values.get("auto_map"):
        raise CheckpointError(
            f"{path} describes a model that is computed by code of its own: auto_map={values['auto_map']!r:.80}. That code was "
            "not run, and the model was not used.",
            "Only stock GPT-2 models can be trained and published.",
        )
    kinds = values.get("architectures")
    other = [kind for kind in kinds if kind not in _LANGUAGE_MODELS] if isinstance(kinds, list) else []
    if other:
        raise CheckpointError(
            f"{path} describes a model that is not a plain language model: architectures={other[0]!r:.60}. It was not used.",
            "Use the GPT2LMHeadModel that it was made from.",
        )


def _sizes(path: Path, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The sizes as transformers reads them, by GPT-2's names, and remarks about those that `values` lack."""
    found: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        given = {key: values[key] for key in (name, _ALIASES.get(name, name)) if key in values}
        if len(set(map(repr, given.values()))) > 1:
            shown = " and ".join(f"{key}={value!r:.20}" for key, value in given.items())
            raise CheckpointError(f"{path} contradicts itself: {shown}. It was not used.", "Correct config.json.")
        found[name] = next(iter(given.values()), default)
    assumed = [f"{name}={found[name]}" for name in found if name not in values and _ALIASES.get(name) not in values]
    return found, [f"its config.json lacks sizes, for which transformers assumes {', '.join(assumed)}"] if assumed else []
