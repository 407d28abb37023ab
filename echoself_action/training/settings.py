"""The training inputs, the settings of a run that come from them, and the presets of fixed size, for four CPU cores."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Never, TypeVar

from pydantic import BeforeValidator, WithJsonSchema

from ..input_field import READS_CORPUS, TRAINS, InputTable, input_field
from .optim.optimizers import OptimizerName
from .phases import Phase, parse_phases

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]
_AUTO_OR_COUNT = {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 0}]}
Processes = Annotated[int, BeforeValidator(lambda value: 0 if value == "auto" else value), WithJsonSchema(_AUTO_OR_COUNT)]
Sharding = Literal["none", "full"]
Phases = Annotated[tuple[Phase, ...] | None, BeforeValidator(parse_phases), WithJsonSchema({"type": "array"})]
PresetName = Literal["auto", "ci", "scheduled", "full"]

# Unset is None in the inputs, if a preset or the checkpoint has the default, and Never in a run's settings. Only type checkers
# see it: pydantic would build generic classes at import, which takes a tenth of the time of --help.
if TYPE_CHECKING:
    Unset = TypeVar("Unset")

    class _Table(InputTable, Generic[Unset]): ...

else:
    Unset = None

    class _Table(InputTable):
        def __class_getitem__(cls, _: object) -> type:
            return cls


def _lowercase(value: object) -> object:
    """YAML also writes `true` as `True`."""
    return value.lower() if value in ("True", "TRUE", "False", "FALSE") and isinstance(value, str) else value


AutoOrBoolean = Annotated[
    Literal["auto", "true", "false"],
    BeforeValidator(_lowercase),
    WithJsonSchema({"enum": ["auto", True, False, "true", "false"]}),
]


class TrainingInputs(_Table[Unset]):
    """The training inputs, in the order of the documentation. Counts are optimizer steps unless stated otherwise."""

    max_iters: int | None = input_field("training", "Number of steps to train in this run.", TRAINS, shown="preset", ge=1)
    max_minutes: float | Unset = input_field(
        "training", "Time limit of this run in minutes, 0 for none.", TRAINS, shown="preset", ge=0
    )
    batch_size: int | Unset = input_field("training", "Sequences per batch.", TRAINS, shown="preset", ge=1)
    gradient_accumulation: int | Unset = input_field("training", "Batches per optimizer step.", TRAINS, shown="preset", ge=1)
    optimizer: OptimizerName | Unset = input_field(
        "training",
        "`muon` (Muon for the matrices inside the blocks, AdamW for all other parameters) or `adamw`.",
        TRAINS,
        shown="the checkpoint's; muon for a new GPT-2, adamw for a new NanEcho",
    )
    learning_rate: float | Unset = input_field("training", "Peak learning rate.", TRAINS, shown="preset", gt=0)
    total_iters: int | None = input_field(
        "schedule",
        "Length of a cosine decay of the learning rate, in steps over all runs. If not set, the learning rate is constant, "
        "with a decay phase at the end of each run (warmup-stable-decay).",
        TRAINS,
        shown="not set",
        ge=1,
    )
    decay: float | Unset = input_field(
        "schedule",
        "Fraction of a run's steps in the decay phase. Not used with total_iters.",
        TRAINS,
        shown="preset",
        ge=0,
        lt=1,
        effect="the decay phase starts at a different step; the stable phase is unaffected",
    )
    phases: Phases = input_field(
        "schedule",
        "Curriculum: a list of phases, each with a name, its share of curriculum_iters, weights of files, a factor on the "
        "learning rate, and for NanEcho the connections that it ends with (docs/curriculum.md). Not a flag.",
        TRAINS,
        shown="none",
    )
    curriculum_iters: int | None = input_field(
        "schedule",
        "Number of steps, over all runs, that phases divide. After them the last phase stays.",
        TRAINS,
        shown="total_iters, else max_iters of the run that starts the curriculum",
        ge=1,
    )
    warmup: int | None = input_field("schedule", "Steps of linear warmup.", TRAINS, shown="preset", ge=0)
    weight_decay: float | Unset = input_field(
        "training", "Weight decay of matrices.", TRAINS, shown="preset", ge=0, effect="from here on"
    )
    input_noise: float | Unset = input_field(
        "training",
        "Fraction of the tokens read in training that are replaced by random tokens of the training text. It regularises, as "
        "dropout does, at no cost in speed.",
        TRAINS,
        shown="preset",
        ge=0,
        lt=1,
        effect="from here on",
    )
    grad_clip: float = input_field(
        "training", "Maximum gradient norm, 0 to disable clipping.", TRAINS, 1.0, ge=0, effect="from here on"
    )
    seed: int = input_field("training", "Random seed of initial weights, batches and dropout.", TRAINS, 1337, ge=0)
    dtype: Dtype = input_field(
        "hardware",
        "Precision of matrix products. `auto`: a model's first run selects bfloat16 where the hardware supports it, float16 on "
        "older GPUs, else float32; later runs keep it.",
        TRAINS,
        "auto",
    )
    compile: AutoOrBoolean = input_field(
        "hardware",
        "Use torch.compile, on a GPU only. `auto`: if Triton and a C compiler are installed.",
        TRAINS,
        "auto",
    )
    device: Device = input_field("hardware", "Device to train on. `auto`: a GPU if there is one.", TRAINS, "auto")
    processes: Processes = input_field(
        "hardware", "Number of data-parallel processes on this machine. `auto`: one per GPU.", TRAINS, 1, ge=0
    )
    sharding: Sharding = input_field(
        "hardware",
        "With several processes, `none`: data parallel, each holds the whole model; `full`: FSDP, parameters, gradients and "
        "optimizer state are sharded.",
        TRAINS,
        "none",
    )
    resume: Literal["auto", "never", "must"] = input_field(
        "start",
        "`auto`: resume from output_dir, else from repo_id, else start a new model; `must`: fail instead of starting a new "
        "model; `never`: always start a new model.",
        TRAINS,
        "auto",
    )
    confirm_fresh_start: bool = input_field("start", "Must be true with `resume: never`.", TRAINS, False)
    eval_interval: int | None = input_field("evaluation", "Steps between evaluations.", TRAINS, shown="preset", ge=1)
    eval_tokens: int = input_field(
        "evaluation",
        "Number of held-out tokens per evaluation, 0 for all.",
        READS_CORPUS,
        65536,
        ge=0,
        effect="held-out losses are measured on different text from here on",
    )
    checkpoint_interval: int | None = input_field("checkpoints", "Steps between checkpoints.", TRAINS, shown="preset", ge=1)
    checkpoint_minutes: float = input_field(
        "checkpoints",
        "Maximum minutes between checkpoints, 0 to save by checkpoint_interval only.",
        TRAINS,
        15,
        ge=0,
    )
    early_stopping: float = input_field(
        "schedule",
        "Go back to the lowest validation loss of this run and decay from there if the loss is above it by this fraction of "
        "it, in two evaluations in a row or when the decay phase starts. 0 disables it. Not used with total_iters.",
        TRAINS,
        0.01,
        ge=0,
    )
    patience: int = input_field(
        "schedule",
        "Number of runs in a row without a lower validation loss on an unchanged corpus after which no more steps are trained "
        "(`result` is `converged`). 0 to disable.",
        TRAINS,
        5,
        ge=0,
    )
    force: bool = input_field("schedule", "Train even if the model has converged on this corpus.", TRAINS, False)
    log_interval: int | None = input_field("evaluation", "Steps between log lines.", TRAINS, shown="preset", ge=1)
    keep_checkpoints: int = input_field(
        "checkpoints", "Number of checkpoints to keep. The best and the latest are always kept.", TRAINS, 3, ge=1
    )


_NOT_RECORDED = {"processes", "resume", "confirm_fresh_start", "patience", "force", "phases", "curriculum_iters"}


class TrainingSettings(TrainingInputs[Never]):
    """Settings of one run: the training inputs, with the defaults of the preset and of the checkpoint filled in.

    A step sees `batch_size * gradient_accumulation` sequences of block_size tokens. `max_iters` None: as many steps as fit in
    `max_minutes`. An interval that is None is chosen by the length of the run (intervals.py). `warmup` None: 5 % of max_iters.
    """

    @property
    def sequences_per_step(self) -> int:
        return self.batch_size * self.gradient_accumulation

    def record(self) -> dict[str, Any]:
        """The settings as a checkpoint records them: without those that only say how the run starts, and the curriculum."""
        return self.model_dump(exclude=_NOT_RECORDED)


@dataclass(frozen=True)
class Preset:
    """Defaults of the inputs with the same names. Default learning rates depend on the optimizer (optim/optimizers.py)."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    dropout: float
    batch_size: int
    gradient_accumulation: int
    max_iters: int
    max_minutes: float
    weight_decay: float
    input_noise: float
    decay: float
    warmup: None
    eval_interval: int
    checkpoint_interval: int
    log_interval: int


# The time limits leave room for the rest of a job (10 minutes, an hour, and 5.5 of the 6 hours of a hosted runner).
PRESETS = {
    "ci": Preset(4, 4, 256, 128, 0.0, 8, 1, 200, 8.0, 0.1, 0.0, 0.2, None, 50, 100, 10),
    "scheduled": Preset(6, 6, 384, 256, 0.1, 8, 2, 2000, 50.0, 0.1, 0.0, 0.2, None, 200, 200, 20),
    "full": Preset(8, 8, 512, 512, 0.1, 8, 4, 20000, 330.0, 0.1, 0.0, 0.2, None, 500, 500, 50),
}
