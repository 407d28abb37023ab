"""The checkpoint formats of other programs, one record each.

A new format is a record here and one module, or two if writing needs PyTorch and reading does not. The modules are imported
when a file of their format is read or written, because most runs need none of them.
"""

import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from ..checkpoint.model_folder import ModelFolder

PREFIXES = ("_orig_mod.", "module.")  # of torch.compile and of DistributedDataParallel, in either order


@dataclass(frozen=True)
class Layout:
    """The top-level keys of a `.pt` file. `weights` is the key of the state dict, "" if the file is one itself."""

    name: str
    weights: str
    keys: frozenset[str]


@dataclass(frozen=True)
class Origin:
    """The file that a model was imported from. `fingerprint` is equal for files of equal content.

    `name` is what is recorded, "" for the name of the file.
    `release` lets go of the pages of a mapped file; it is called after each tensor.
    """

    path: Path
    layout: str
    fingerprint: str
    name: str = ""
    release: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Exported:
    """A model as files for another program at `path`, and the command that uses them. `notes` say what is not as it was.

    `files` are those to publish with the model, by their paths in the repo: none of a checkpoint for another trainer.
    """

    path: Path
    command: str
    notes: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)


class FormatExporter(Protocol):
    """The module that writes a format."""

    def export(self, folder: "ModelFolder", output_dir: Path) -> Exported:
        """Write `folder` below `output_dir`.

        Raises CheckpointError if the other program can't compute the model exactly.
        """


@dataclass(frozen=True)
class ExportFormat:
    """A format that models can be written in. `exporter` is a module below this folder, "" if there is none.

    `exports` describes what it writes, for the help of the input `formats`.
    """

    name: str
    display_name: str
    exporter: str = ""
    exports: str = ""

    def export(self, folder: "ModelFolder", output_dir: Path) -> Exported:
        """As `FormatExporter.export`."""
        return cast(FormatExporter, load(self.exporter)).export(folder, output_dir)


@dataclass(frozen=True)
class Format(ExportFormat):
    """`recognises(layout name, tensor names)` says whether a `.pt` is of this format: the first record that does reads it.

    Files with one of `suffixes`, or that begin with one of `begins`, are read without opening them as a `.pt`. `reader` is a
    module beside this file.
    """

    reader: str = ""
    layouts: tuple[Layout, ...] = ()
    recognises: Callable[[str, Collection[str]], bool] = lambda _layout, _names: False
    suffixes: tuple[str, ...] = ()
    begins: tuple[bytes, ...] = ()

    def load_reader(self) -> Any:
        """The module that reads this format, an `import_checkpoint.FormatReader`."""
        return load(self.reader)


def load(module: str) -> Any:
    """A module below this folder, such as `.nanogpt`: it is imported when a file of its format is read or written."""
    return import_module(module, __package__)


def deferred(module: str, name: str) -> Callable[..., Any]:
    """The function `name` of a module beside this file, which is imported at the first call: reading needs no PyTorch."""

    def call(*arguments: Any) -> Any:
        return getattr(load(module), name)(*arguments)

    return call


def _layout(name: str, weights: str, *others: str) -> Layout:
    return Layout(name, weights, frozenset({weights, *others} - {""}))


def _holds_gpt2(names: Collection[str]) -> bool:
    return any(name.endswith((".attn.c_attn.weight", "wte.weight")) for name in names)


NANOGPT = Format(
    name="nanogpt",
    display_name="nanoGPT",
    reader=".nanogpt",
    exporter=".nanogpt_export",
    exports="nanogpt/ckpt.pt",
    layouts=(_layout("nanoGPT", "model", "model_args"),),
    recognises=lambda layout, _: layout == "nanoGPT",
)
NANECHO = Format(
    name="nanecho",
    display_name="NanEcho",
    reader=".nanecho",
    exporter=".nanecho_export",
    exports="nanecho/cache",
    layouts=(  # those with more keys before those with fewer
        _layout("NanEcho train_nanecho", "model_state_dict", "model_config", "training_run_config"),
        _layout("NanEcho cache", "model_state_dict", "model_config", "checkpoint_id"),
        _layout("NanEcho fallback export", "model_state_dict", "model_config", "exported_at", "fallback"),
        _layout("NanEcho best_model_export", "model_state_dict", "model_config", "exported_at"),
        _layout("NanEcho native export", "model_state_dict", "config", "format", "connection_ratio"),
    ),
    recognises=lambda _, names: "token_embedding.weight" in names and not _holds_gpt2(names),
)
NETRAIN = "netrain"
GPT2 = Format(
    name="gpt2",
    display_name="GPT-2",
    reader=".gpt2",
    layouts=(
        _layout("PyTorch Lightning", "state_dict", "pytorch-lightning_version"),
        _layout("echoself pull", "model", "config", "metadata"),
        _layout(NETRAIN, "model_state_dict", "global_step", "config"),
        _layout("another EchoSelf trainer", "model_state_dict", "step", "loss"),
        _layout("another EchoSelf trainer", "model_state_dict", "epoch", "history"),
        _layout("another EchoSelf trainer", "model_state_dict", "step", "loss_history"),
        _layout("older export", "model_state", "metadata"),
        _layout("build-nanogpt", "model", "config", "step", "val_loss"),
        *(_layout("a state dict with its config", key, "config") for key in ("model", "model_state_dict", "state_dict")),
        *(_layout("a state dict under a key", key) for key in ("model", "model_state_dict", "state_dict")),
    ),
    recognises=lambda _, names: _holds_gpt2(names),
)
LLMC_MAGIC = 20240326
LLMC_MAGICS = {  # the first int32 of the files of llm.c
    LLMC_MAGIC: "a model",
    20240327: "the reference values of a test",
    20240328: "a tokenizer",
    20240520: "the tokens of a text",
    20240527: "the state of an optimizer",
    20240801: "the tokens of a text for Llama",
    20240803: "a Llama model, which is not supported",
}
LLMC = Format(
    name="llmc",
    display_name="llm.c",
    reader=".llmc",
    begins=tuple(struct.pack("<i", day) for day in LLMC_MAGICS),
)
FORMATS = (NANOGPT, NANECHO, GPT2, LLMC)
RAW = Layout("a state dict and nothing else", "", frozenset())
LAYOUTS = tuple(layout for one in FORMATS for layout in one.layouts)


def known_layouts() -> str:
    """The names of all layouts, for a message."""
    return ", ".join(dict.fromkeys(layout.name for layout in (*LAYOUTS, RAW)))


def format_of(layout: str, names: Collection[str]) -> Format | None:
    """The format of a `.pt` with this layout and these tensors, None if it is not recognised."""
    return next((one for one in FORMATS if one.recognises(layout, names)), None)


def format_of_file(path: Path) -> Format | None:
    """The format whose files have this suffix or begin like this one, None for `.pt` and all others."""
    try:
        with path.open("rb") as file:
            begins = file.read(16)
    except OSError:
        begins = b""
    return next((one for one in FORMATS if path.suffix in one.suffixes or begins.startswith(one.begins)), None)
