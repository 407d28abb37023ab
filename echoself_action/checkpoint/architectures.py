"""The architectures that can be trained and published, one record each.

A new one is a record here, its model and configuration class in `model/`, a module that reads and writes its config.json beside
this file (see `ConfigModule`), and an entry in `model.ModelConfig`. Its code is imported on first use: GPT-2's model loads
PyTorch and NanEcho's code loads transformers, which takes seconds.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, cast, get_args

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from ..model import Model, ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

    from .arrays import Array

ArchitectureName = Literal["gpt2", "nanecho"]
NanEchoPath = Literal["adaptive_attention", "persona_dimensions", "recursive_reasoning", "hypergraph_patterns"]
NANECHO_PATHS: tuple[NanEchoPath, ...] = get_args(NanEchoPath)
_PACKAGE = Path(__file__).parent.parent


class ConfigModule(Protocol):
    """How an architecture is stored in a model folder: its config.json, and the names and shapes of its tensors."""

    TIED: Mapping[str, str]
    """A tensor that a file may repeat -> the tensor of the model that it must equal."""

    def new_config(self, sizes: Mapping[str, Any], options: Mapping[str, Any], max_iters: int) -> ModelConfig:
        """The configuration of a new model. `options` are the inputs that are specific to this architecture (`own_inputs`)."""

    def read_config(self, path: Path, values: Mapping[str, Any]) -> ModelConfig:
        """The configuration that `values`, the config.json at `path`, describes. Raises CheckpointError if it is invalid."""

    def write_config(self, config: Any, end_of_text_id: int | None) -> dict[str, Any]:
        """The config.json that transformers loads."""

    def shapes(self, config: Any) -> dict[str, tuple[int, ...]]:
        """The model's tensors in the order of its state dict."""

    def fewest_tensors(self, config: Any) -> int:
        """A lower bound of the number of tensors, computed without building anything of that size."""

    def stored_names(self, keys: Iterable[str]) -> dict[str, str]:
        """The name of each tensor in our model -> its name in the file."""

    def is_spare(self, config: Any, name: str) -> bool:
        """Whether a file may hold this tensor in addition to the model's."""

    def stored_tensors(self, config: Any, weights: "Mapping[str, Array | Tensor]") -> "dict[str, Array | Tensor]":
        """The tensors that model.safetensors holds, from the model's state dict."""

    def flops_per_token(self, config: Any) -> float | None:
        """Floating-point operations of a training step for each token; None if unknown."""

    def card_text(self, config: Any) -> str:
        """The section of the model card that is specific to this architecture, in Markdown."""


@dataclass(frozen=True)
class Architecture:
    """The facts about an architecture that are needed without loading its code.

    `name` is the `model_type` of config.json, `config_module` a `ConfigModule` beside this file, `model_class` the module and
    name of the model. `code_files` are published with the model because transformers lacks the architecture: file name ->
    our source file, which transformers runs with trust_remote_code. `own_inputs` are the inputs that are specific to this
    architecture. `n_embd` must be a multiple of `n_embd_multiple` because of `n_embd_reason`. `blocks` is the name of the
    module that contains the blocks, `muon_matrices` the prefix of the matrices that Muon trains, None if it trains none.
    `accelerated`: torch.compile and the chunked loss support its modules.
    """

    name: ArchitectureName
    display_name: str
    config_module: str
    model_class: tuple[str, str]
    default_optimizer: Literal["muon", "adamw"]
    blocks: str
    muon_matrices: str | None = None
    accelerated: bool = False
    code_files: Mapping[str, Path] = field(default_factory=dict)
    own_inputs: tuple[str, ...] = ()
    n_embd_multiple: int = 1
    n_embd_reason: str = ""

    @cached_property
    def config(self) -> ConfigModule:
        """The module that reads and writes its config.json."""
        return cast(ConfigModule, import_module(self.config_module, __package__))

    def new_model(self, config: ModelConfig) -> Model:
        """A model of this configuration; its weights are not initialised."""
        module, name = self.model_class
        make: Callable[[ModelConfig], Model] = getattr(import_module(module, __package__), name)
        return make(config)

    def remote_code(self) -> dict[str, bytes]:
        """The files that transformers runs to load the model, by name; none if transformers has the architecture."""
        return {name: path.read_bytes() for name, path in self.code_files.items()}

    @property
    def trust_argument(self) -> str:
        """The additional argument of `from_pretrained`, for example code."""
        return ", trust_remote_code=True" if self.code_files else ""


GPT2 = Architecture(
    name="gpt2",
    display_name="GPT-2",
    config_module=".gpt2_config",
    model_class=("..model.gpt2", "GPT2"),
    default_optimizer="muon",
    blocks="transformer.h",
    muon_matrices="transformer.h.",
    accelerated=True,
)
NANECHO = Architecture(
    name="nanecho",
    display_name="NanEcho",
    config_module=".nanecho_config",
    model_class=("..model.nanecho", "NanEchoForCausalLM"),
    default_optimizer="adamw",
    blocks="blocks",
    code_files={"modeling_nanecho.py": _PACKAGE / "model" / "nanecho.py"},
    own_inputs=("persona_dimensions", "nanecho_paths"),
    n_embd_multiple=4,
    n_embd_reason="The hypergraph attention of NanEcho has 4 heads.",
)
DEFAULT = GPT2
ARCHITECTURES: Mapping[str, Architecture] = {one.name: one for one in (GPT2, NANECHO)}


def architecture_of(config: ModelConfig) -> Architecture:
    """The record of the architecture that `config` belongs to."""
    return ARCHITECTURES[config.model_type]


def _not_an_attribute(name: str) -> str:
    module = import_module("torch.nn").ModuleDict()  # loads PyTorch, only if names are given
    if hasattr(module, name):
        raise PydanticCustomError("taken", "that name is taken in PyTorch's modules")
    return name


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise PydanticCustomError("twice", "contains duplicates: {names}", {"names": ", ".join(_repeated(names))})
    return names


def _repeated(names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


DimensionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"), AfterValidator(_not_an_attribute)]
# NanEcho's persona dimensions
DimensionNames = Annotated[
    list[DimensionName], Field(min_length=1, json_schema_extra={"uniqueItems": True}), AfterValidator(_distinct)
]
