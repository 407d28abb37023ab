"""Exports a model folder for llama.cpp: GGUF files in F32, F16 and Q8_0, and what Ollama needs beside them.

`ollama create` reads the Modelfile; `ollama run hf.co/owner/name` gets the same settings from the files `template` and `params`
of the repo (huggingface.co/docs/hub/ollama). Both pass a prompt to the model as it is, because it continues texts and does not
know the words of a chat template. The GGUF files have a chat template that does the same, for other programs.

Tensors have llama.cpp's names and the orientation of its converter (conversion/gpt2.py of github.com/ggml-org/llama.cpp):
matrices are (out, in). Norms, biases and position embeddings are F32 in every file.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from ... import libraries
from ...checkpoint.atomic import new_file
from ...checkpoint.gpt2_config import POSITIONS, TOKENS, shapes
from ...checkpoint.model_folder import WEIGHTS_FILE, ModelFolder, element_count
from ...checkpoint.weights import load_model, new_tokens_by_default
from ...corpus.make_tokenizer import load_tokenizer
from ...errors import CheckpointError
from ...model.config import GPT2Config
from ..registry import Exported
from .gguf_tokenizer import MODEL, GgufVocabulary, gguf_vocabulary

TYPES = ("F32", "F16", "Q8_0")
MODELFILE, TEMPLATE_FILE, PARAMETERS_FILE = "Modelfile", "template", "params"
_FOLDER = "gguf"
_ARCHITECTURE = "gpt2"
_FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7}  # llama_ftype
_BLOCK = 32  # elements of a row with a common scale, in Q8_0
_FALLBACK = "F16"  # of llama.cpp, for rows that are not a multiple of the block
_NAMES = {
    **{"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output"},
    **{"ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"},
}
_LARGEST_F16 = 65504.0
_CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"  # Jinja, of llama.cpp
_OLLAMA_TEMPLATE = "{{ .Prompt }}"  # Go, of Ollama
_TEMPERATURE = 0.8
_SEQUENCES, _POSITIONS = 8, 64


def gguf_file(kind: str) -> str:
    """The name of the file of a type of `TYPES`. Ollama and the Hub find the type in it."""
    return f"model-{kind}.gguf"


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the GGUF file. `source` is its name in our model, None for zeros."""

    name: str
    source: str | None
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        elements = int(np.prod(self.shape))
        return elements // _BLOCK * (_BLOCK + 2) if self.dtype == "Q8_0" else elements * (2 if self.dtype == "F16" else 4)


def export(folder: ModelFolder, output_dir: Path) -> Exported:
    """Write `folder` as `gguf/model-<type>.gguf`, with a Modelfile; see `FormatExporter`."""
    config = folder.config
    if not isinstance(config, GPT2Config):
        raise CheckpointError(
            f"{folder.path} can't be exported for llama.cpp: its architecture is {folder.architecture.display_name}, which "
            "llama.cpp does not have. No GGUF file was written.",
            "Leave gguf out of formats.",
        )
    tokenizer = load_tokenizer(folder.path)
    vocabulary = gguf_vocabulary(tokenizer, config.vocab_size, folder.path, lambda: _least_predicted(folder))
    place = output_dir / _FOLDER
    files = {name: place / name for name in (*map(gguf_file, TYPES), MODELFILE, TEMPLATE_FILE, PARAMETERS_FILE)}
    with ExitStack() as written:  # all of them replace older ones, or none does
        for kind in TYPES:
            file = written.enter_context(new_file(files[gguf_file(kind)]))
            _write(Path(file.name), folder, config, vocabulary, tokenizer.name, kind)
        parameters = _parameters(config, vocabulary)
        for name, text in (
            (MODELFILE, _modelfile(parameters)),
            (TEMPLATE_FILE, _OLLAMA_TEMPLATE),  # its line end would be part of the prompt
            (PARAMETERS_FILE, json.dumps(parameters, indent=2) + "\n"),
        ):
            written.enter_context(new_file(files[name])).write(text.encode())
    path = files[gguf_file("Q8_0")]
    return Exported(place, f"llama-server -m {path} -c {config.block_size}", _notes(config, vocabulary), files)


def _least_predicted(folder: ModelFolder) -> int:
    """The id with the smallest mean probability after random ids: the same for a folder with held-out text and without."""
    length = min(folder.config.block_size, _POSITIONS)
    ids = np.random.default_rng(0).integers(folder.config.vocab_size, size=(_SEQUENCES, length))
    with torch.no_grad():
        probabilities = load_model(folder).eval().logits(torch.from_numpy(ids)).double().softmax(-1)
    return int(probabilities.mean((0, 1)).argmin())


def _write(
    path: Path, folder: ModelFolder, config: GPT2Config, vocabulary: GgufVocabulary, tokenizer_name: str, kind: str
) -> None:
    gguf = libraries.gguf
    writer = gguf.GGUFWriter(path, _ARCHITECTURE)
    try:
        writer.add_type("model")
        writer.add_name(f"{folder.architecture.display_name} {tokenizer_name}")
        writer.add_size_label(gguf.size_label(element_count(config), 0, 0, 0))
        writer.add_context_length(config.block_size)
        writer.add_embedding_length(config.n_embd)
        writer.add_feed_forward_length(4 * config.n_embd)
        writer.add_block_count(config.n_layer)
        writer.add_head_count(config.n_head)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        writer.add_file_type(_FILE_TYPES[kind])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_vocabulary(writer, vocabulary)
        tensors = _tensors(config, kind)
        for tensor in tensors:
            dtype = gguf.GGMLQuantizationType[tensor.dtype]
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, dtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with safe_open(folder.path / WEIGHTS_FILE, "pt") as weights:
            names = folder.architecture.config.stored_names(weights.keys())
            for tensor in tensors:
                if tensor.source is None:
                    values = np.zeros(tensor.shape, np.float32)
                else:
                    values = weights.get_tensor(names[tensor.source]).float().numpy()
                    if values.ndim > 1 and tensor.source not in (TOKENS, POSITIONS):
                        values = np.ascontiguousarray(values.T)
                writer.write_tensor_data(_stored(values, tensor, folder))
    finally:
        writer.close()


def _add_vocabulary(writer: Any, vocabulary: GgufVocabulary) -> None:
    writer.add_tokenizer_model(MODEL)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    if vocabulary.end_of_text:
        writer.add_bos_token_id(vocabulary.end_id)
    writer.add_eos_token_id(vocabulary.end_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(_CHAT_TEMPLATE)


def _tensors(config: GPT2Config, kind: str) -> list[_Tensor]:
    """In the order of the model, with a bias beside each weight of a norm and a matrix."""
    found = []
    for source, shape in shapes(config).items():
        name = _name(source)
        if len(shape) == 1 or source == POSITIONS:
            found.append(_Tensor(name, source, shape, "F32"))
        else:
            stored = shape if source == TOKENS else shape[::-1]
            dtype = _FALLBACK if kind == "Q8_0" and stored[-1] % _BLOCK else kind
            found.append(_Tensor(name, source, stored, dtype))
        if not config.bias and source not in (TOKENS, POSITIONS):
            found.append(_Tensor(name.removesuffix("weight") + "bias", None, shape[-1:], "F32"))
    return found


def _name(source: str) -> str:
    if source in (TOKENS, POSITIONS):
        return "token_embd.weight" if source == TOKENS else "position_embd.weight"
    module, _, kind = source.removeprefix("transformer.").rpartition(".")
    if module == "ln_f":
        return f"output_norm.{kind}"
    _, layer, module = module.split(".", 2)
    return f"blk.{layer}.{_NAMES[module]}.{kind}"


def _stored(values: npt.NDArray[np.float32], tensor: _Tensor, folder: ModelFolder) -> npt.NDArray[Any]:
    if tensor.dtype == "F16" and not np.abs(values).max() <= _LARGEST_F16:
        raise CheckpointError(
            f"{folder.path} can't be exported for llama.cpp: {tensor.source} has the value {np.abs(values).max():.4g}, and F16 "
            f"ends at {_LARGEST_F16:g}. No GGUF file was written.",
            "Leave gguf out of formats.",
        )
    quantised: npt.NDArray[Any] = libraries.gguf.quants.quantize(values, libraries.gguf.GGMLQuantizationType[tensor.dtype])
    return quantised


def _parameters(config: GPT2Config, vocabulary: GgufVocabulary) -> dict[str, int | float | list[str]]:
    """Ollama's. Without num_ctx and num_predict, it continues past the model's last position."""
    length = config.block_size
    found: dict[str, int | float | list[str]] = {
        "num_ctx": length,
        "num_predict": new_tokens_by_default(length),
        "temperature": _TEMPERATURE,
    }
    if vocabulary.end_of_text and '"' not in vocabulary.end_of_text:  # a Modelfile can't quote it
        found["stop"] = [vocabulary.end_of_text]
    return found


def _modelfile(parameters: Mapping[str, int | float | list[str]]) -> str:
    lines = [f"FROM ./{gguf_file('Q8_0')}", f'TEMPLATE "{_OLLAMA_TEMPLATE}"']
    for name, value in parameters.items():
        lines += [f'PARAMETER {name} "{one}"' for one in value] if isinstance(value, list) else [f"PARAMETER {name} {value}"]
    return "\n".join(lines) + "\n"


def _notes(config: GPT2Config, vocabulary: GgufVocabulary) -> tuple[str, ...]:
    notes = list(vocabulary.notes)
    fallbacks = [tensor.name for tensor in _tensors(config, "Q8_0") if tensor.dtype == _FALLBACK]
    if fallbacks:
        notes.append(
            f"{len(fallbacks)} tensors of {gguf_file('Q8_0')} are {_FALLBACK}, because their rows are no multiple of {_BLOCK} "
            f"values: {', '.join(fallbacks)}"[:300]
        )
    return tuple(notes)


def tensor_names(config: GPT2Config) -> Iterator[tuple[str, str | None]]:
    """The name of each tensor in the GGUF file, and in the model folder: None for a bias of zeros."""
    yield from ((tensor.name, tensor.source) for tensor in _tensors(config, "F32"))
