"""Folders as transformers, its Trainer and PEFT write them in the versions that people have, written without transformers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file

from echoself_action.corpus.make_tokenizer import make_tokenizer

from .reference import Floats, Ids, gpt2_logits


def _tokenizer_json() -> str:
    with TemporaryDirectory() as folder:
        make_tokenizer("bytes", lambda: iter(())).save(Path(folder))
        return Path(folder, "tokenizer.json").read_text()


VOCABULARY, WIDTH, BLOCK, HEADS = 257, 24, 16, 2
BYTES = _tokenizer_json()  # ids 0 to 255 are bytes, 256 ends a text
Weights = dict[str, torch.Tensor]
Change = Callable[[Weights], None]
DTYPES = {name: getattr(torch, name) for name in ("float64", "float32", "float16", "bfloat16", "int8")}


def weights(
    vocab_size: int = VOCABULARY, width: int = WIDTH, layers: int = 2, inner: int | None = None, spread: float = 0.3
) -> Weights:
    """Random weights under GPT2Model's names, matrices as (in, out). Those of an initialisation have a spread of 0.02."""
    inner, generator = inner or 4 * width, torch.Generator().manual_seed(layers * width)
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (vocab_size, width), "wpe.weight": (BLOCK, width)}
    for i in range(layers):
        matrices = {"attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width)}
        matrices |= {"mlp.c_fc": (width, inner), "mlp.c_proj": (inner, width)}
        for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
            shapes[f"h.{i}.{name}.weight"] = matrices.get(name, (width,))
            shapes[f"h.{i}.{name}.bias"] = matrices.get(name, (width,))[-1:]
    shapes |= {"ln_f.weight": (width,), "ln_f.bias": (width,)}
    return {name: spread * torch.randn(shape, generator=generator) + (".ln_" in f".{name}") for name, shape in shapes.items()}


def config(**changes: Any) -> dict[str, Any]:
    """The config.json; a change to None leaves the key out."""
    values: dict[str, Any] = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": VOCABULARY,
        "n_positions": BLOCK,
        "n_embd": WIDTH,
        "n_layer": 2,
        "n_head": HEADS,
        "activation_function": "gelu_new",
        "bos_token_id": 256,
        "eos_token_id": 256,
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
    }
    return {key: value for key, value in (values | changes).items() if value is not None}


@dataclass(frozen=True)
class Folder:
    """What a folder has. `config`, `weights` are changes; `files` are written as they are: text, or JSON of another value.

    `dtype` is that of the tensors in `form`: "safetensors", "shards", "pickle" or "pickled shards". `reference` are the
    arguments of the reference that differ.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    change: Change = lambda _: None
    form: str = "safetensors"
    dtype: str = "float32"
    prefix: str = "transformer."
    files: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    spread: float = 0.3

    @property
    def tensors(self) -> Weights:
        found = weights(**self.sizes, spread=self.spread)
        self.change(found)
        return {name: tensor.to(DTYPES[self.dtype]) if tensor.is_floating_point() else tensor for name, tensor in found.items()}

    def logits(self, ids: Ids) -> Floats:
        """Those of the reference."""
        masks = (".attn.bias", ".attn.masked_bias")
        exact = {name: tensor.double().numpy() for name, tensor in self.tensors.items() if not name.endswith(masks)}
        return gpt2_logits(exact, ids, **{"n_head": HEADS, "activation": "gelu_new"} | dict(self.reference))

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        make_tokenizer("bytes", lambda: iter(())).save(folder)
        (folder / "config.json").write_text(json.dumps(config(**self.config)))
        named = {f"{'' if name.startswith('lm_head') else self.prefix}{name}": tensor for name, tensor in self.tensors.items()}
        _save(folder, named, self.form)
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        for name in self.without:
            (folder / name).unlink()


def _save(folder: Path, tensors: Weights, form: str) -> None:
    names = list(tensors)
    stem, suffix, save = (
        ("pytorch_model", "bin", torch.save) if form.startswith("pickle") else ("model", "safetensors", _save_safetensors)
    )
    if not form.endswith("shards"):
        save(tensors, folder / f"{stem}.{suffix}")
        return
    shards = {name: f"{stem}-0000{1 + i % 3}-of-00003.{suffix}" for i, name in enumerate(names)}
    for shard in sorted(set(shards.values())):
        save({name: tensors[name] for name in names if shards[name] == shard}, folder / shard)
    index = {"metadata": {"total_size": 1}, "weight_map": shards}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


def _save_safetensors(tensors: Weights, path: Path) -> None:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
