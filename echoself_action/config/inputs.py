"""Every input of the action, declared once.

The help texts, action.yml and the tables of the documentation are made from `Inputs`; load.py reads it from the command line,
the inputs of the action and the YAML file. Each mode has a type of its own, in which the inputs it requires are required.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ..checkpoint.architectures import ArchitectureName, DimensionNames
from ..formats.registry import EXPORTS_HELP, ExportName
from ..hub.repo_id import MAX_REPO_ID, REPO
from ..training.optim.optimizers import OPTIMIZERS, OptimizerName
from ..training.settings import PRESETS, Compile, Device, Dtype, Sharding, TrainingSettings

Mode = Literal["train", "deploy", "pull", "cycle", "compare"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_CONFIG = ".github/echoself.yml"
AUTO = "auto"  # as `checkpoint`: search for one
LAUNCH_INPUTS = ("runtime", "image")  # launch.sh reads them, before there is a Python that could read flags or a file
NO_FLAGS = ("mode", "hf_token", *LAUNCH_INPUTS)

_ALL = MODES
TRAINS: tuple[Mode, ...] = ("train", "cycle")
PUBLISHES: tuple[Mode, ...] = ("deploy", "cycle")
_READS: tuple[Mode, ...] = (*TRAINS, "deploy", "compare")
_IMPORTS: tuple[Mode, ...] = (*_READS, "pull")


def _input(
    help: str, modes: tuple[Mode, ...], default: Any = None, shown: str | None = None, form: str | None = None, **limits: Any
) -> Any:
    """Declare an input: its help text, the modes that have it and its default.

    `shown` is the default as documentation shows it, if it depends on other inputs. `form` is the advice for a value of an
    invalid format.
    """
    return Field(default, description=help, json_schema_extra={"modes": list(modes), "shown": shown, "form": form}, **limits)


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part for part in (piece.strip() for piece in re.split(r"[,\n]", value)) if part]
    return value


def _text(value: object) -> object:
    """YAML reads `tag: 1.0` or `revision: 2024` as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _off(value: object) -> object:
    """YAML 1.1 reads `verify: off` as a boolean."""
    return "off" if value is False else value


def _boolean_as_text(value: object) -> object:
    """YAML reads `compile: true` as a boolean."""
    return str(value).lower() if isinstance(value, bool) else value


def _path(value: str) -> str:
    """Checked here, because the file system would refuse it only after the work is done."""
    if "\0" in value or len(value) > 4000 or any(len(part.encode()) > 255 for part in value.split("/")):
        raise PydanticCustomError("invalid_path", "not a valid path for a file or folder")
    return value


def _repo(value: str) -> str:
    """Checked here, because huggingface_hub would refuse it only after the work is done."""
    if not re.fullmatch(REPO, value):
        raise PydanticCustomError("string_pattern_mismatch", "not a valid repo id")
    return value


def _distinct(values: list[str]) -> list[str]:
    if duplicates := sorted({value for value in values if values.count(value) > 1}):
        raise PydanticCustomError("duplicates", "contains duplicates: {names}", {"names": ", ".join(duplicates)})
    return values


Text = Annotated[str, BeforeValidator(_text)]
LanguageCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,12}(-[A-Za-z0-9]{1,8}){0,3}$")]
PathText = Annotated[str, AfterValidator(_path)]
RepoId = Annotated[Text, AfterValidator(_repo)]
Candidates = Annotated[list[PathText], BeforeValidator(_split), AfterValidator(_distinct), Field(min_length=2)]
PullRequests = Annotated[Text, StringConstraints(pattern=r"^(open|[1-9][0-9]{0,8})$")]
REVISION = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
REPO_ID_FORM = "Use the form owner/name, such as my-org/my-model."
_REPO_NAMES = (
    f"The Hub does not accept names that contain -- or .., start or end with - or ., end with .git, or are longer than "
    f"{MAX_REPO_ID} characters."
)


class Inputs(BaseModel):
    """The inputs, parsed and validated. None if an input was not given and its default depends on other inputs."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True, allow_inf_nan=False, defer_build=True
    )

    mode: Mode = _input("What to do: train, deploy, pull, cycle or compare.", _ALL, shown="required")
    config: str | None = _input("YAML file that sets any of these inputs.", _ALL, shown=f"{DEFAULT_CONFIG}, if it exists")
    model: Text | None = _input(
        "Name of the model to run, one of `models` in the YAML file.",
        _ALL,
        shown="all of them, one after the other",
        form="Use one of the names under models in the file.",
    )
    repo_id: RepoId | None = _input("Model repo on the Hub, as owner/name.", _ALL, form=f"{REPO_ID_FORM} {_REPO_NAMES}")
    revision: Text = _input(
        "Branch, tag or commit of the model repo.",
        _ALL,
        "main",
        pattern=f"^{REVISION}$",
        form="Use the name of a branch, a tag or a commit.",
    )
    hub: PathText | None = _input(
        "URL of the Hub; or `local`, or a folder, for a local Hub on this machine.",
        _ALL,
        shown="HF_ENDPOINT or huggingface.co",
    )
    hf_token: SecretStr | None = _input("Access token of the Hub. Cannot be passed as a flag.", _ALL, shown="HF_TOKEN")
    checkpoint: PathText | None = _input(
        "Model folder or `.pt` file to deploy, resume from or import; a glob that matches exactly one; or `auto` to search "
        "for one.",
        (*TRAINS, "deploy", "pull"),
        shown="the best checkpoint in output_dir; for pull, the model on the Hub",
    )
    candidates: Candidates | None = _input(
        "Two or more models to compare: model folders, `.pt` files, or Hub repos as owner/name or owner/name@revision.",
        ("compare",),
        shown="the model on the Hub and the best checkpoint in output_dir",
    )
    pull_requests: PullRequests | None = _input(
        "Review pull requests to repo_id on the Hub and comment the verdict on each: `open` for every open one that has "
        "changed since its last review, or the number of one.",
        ("compare",),
        form="Use open, or the number of a pull request.",
    )
    output_dir: Annotated[Path, BeforeValidator(lambda value: _path(str(value)))] = _input(
        "Folder to save checkpoints in. With several models, each uses a subfolder of its name.", _ALL, Path("echoself-model")
    )

    formats: Annotated[list[ExportName], BeforeValidator(_split)] = _input(
        f"Additional exports into output_dir, for other trainers to resume from: {EXPORTS_HELP}.",
        ("pull",),
        [],
    )

    data: Annotated[list[PathText], BeforeValidator(_split)] = _input(
        "Training data: globs of text, Markdown, code, JSONL or JSON (`text` or chat `messages`), Parquet or nanoGPT .bin "
        "files; or a dataset on the Hub as hf://datasets/owner/name or hf://datasets/owner/name@revision.",
        _READS,
        ["**/*.md"],
        min_length=1,
    )
    val_fraction: float = _input("Fraction of the documents held out for validation.", _READS, 0.1, gt=0, le=0.5)
    on_bad_file: Literal["fail", "skip"] = _input("What to do with a file that cannot be read in its format.", _READS, "fail")
    tokenizer: PathText | None = _input(
        "`gpt2`; `bpe:<size>` to train one on the corpus; `bytes`; or the path of a tokenizer.json or of nanoGPT's meta.pkl.",
        _IMPORTS,
        pattern=r"^(gpt2|bytes|bpe:[1-9][0-9]*|.+\.(json|pkl))$",
        shown="the checkpoint's; gpt2 for a new model",
        form="Use gpt2, bytes, bpe:<size> such as bpe:4096, or the path of a tokenizer.json or a meta.pkl.",
    )

    preset: Literal["ci", "scheduled", "full"] = _input(
        "Model size and training budget: defaults for the inputs marked preset.", TRAINS, "ci"
    )
    architecture: ArchitectureName | None = _input(
        "`gpt2`; or `nanecho`, which transformers loads only with trust_remote_code=True.",
        TRAINS,
        shown="the checkpoint's; gpt2 for a new model",
    )
    persona_dimensions: Annotated[DimensionNames, BeforeValidator(_split)] | None = _input(
        "Names of the persona dimensions of a new NanEcho model.",
        TRAINS,
        shown="the eight of Echo Self",
        form="Use names of letters, digits and underscores.",
    )
    n_layer: int | None = _input("Number of transformer blocks.", TRAINS, shown="preset", ge=1)
    n_head: int | None = _input(
        "Number of attention heads. Required for an imported checkpoint that does not record it.",
        _IMPORTS,
        shown="preset",
        ge=1,
    )
    n_embd: int | None = _input("Embedding size (hidden width).", TRAINS, shown="preset", ge=1)
    block_size: int | None = _input("Context length, in tokens.", TRAINS, shown="preset", ge=1)
    dropout: float | None = _input("Dropout probability.", TRAINS, shown="preset", ge=0, lt=1)
    bias: bool | None = _input("Use biases in linear layers and layer norms.", TRAINS, shown="true")
    max_iters: int | None = _input("Number of steps to train in this run.", TRAINS, shown="preset", ge=1)
    max_minutes: float | None = _input("Time limit of this run in minutes, 0 for none.", TRAINS, shown="preset", ge=0)
    batch_size: int | None = _input("Sequences per batch.", TRAINS, shown="preset", ge=1)
    gradient_accumulation: int | None = _input("Batches per optimizer step.", TRAINS, shown="preset", ge=1)
    optimizer: OptimizerName | None = _input(
        "`muon` (Muon for the matrices inside the blocks, AdamW for all other parameters) or `adamw`.",
        TRAINS,
        shown="the checkpoint's; muon for a new GPT-2, adamw for a new NanEcho",
    )
    learning_rate: float | None = _input("Peak learning rate.", TRAINS, shown="preset", gt=0)
    total_iters: int | None = _input(
        "Length of a cosine decay of the learning rate, in steps over all runs. If not set, the learning rate is constant, "
        "with a decay phase at the end of each run (warmup-stable-decay).",
        TRAINS,
        shown="not set",
        ge=1,
    )
    decay: float = _input("Fraction of a run's steps in the decay phase. Not used with total_iters.", TRAINS, 0.2, ge=0, lt=1)
    warmup: int | None = _input("Steps of linear warmup.", TRAINS, shown="5% of the run", ge=0)
    weight_decay: float = _input("Weight decay of matrices.", TRAINS, 0.1, ge=0)
    grad_clip: float = _input("Maximum gradient norm, 0 to disable clipping.", TRAINS, 1.0, ge=0)
    seed: int = _input("Random seed of initial weights, batches and dropout.", TRAINS, 1337, ge=0)
    dtype: Dtype = _input(
        "Precision of matrix products. `auto`: a model's first run selects bfloat16 where the hardware supports it, float16 on "
        "older GPUs, else float32; later runs keep it.",
        TRAINS,
        "auto",
    )
    compile: Annotated[Compile, BeforeValidator(_boolean_as_text)] = _input(
        "Use torch.compile, on a GPU only. `auto`: if Triton and a C compiler are installed.", TRAINS, "auto"
    )
    device: Device = _input("Device to train on. `auto`: a GPU if there is one.", TRAINS, "auto")
    processes: Annotated[int, BeforeValidator(lambda value: 0 if value == AUTO else value)] = _input(
        "Number of data-parallel processes on this machine. `auto`: one per GPU.", TRAINS, 1, ge=0
    )
    sharding: Sharding = _input(
        "With several processes, `none`: data parallel, each holds the whole model; `full`: FSDP, parameters, gradients and "
        "optimizer state are sharded.",
        TRAINS,
        "none",
    )
    resume: Literal["auto", "never", "must"] = _input(
        "`auto`: resume from output_dir, else from repo_id, else start a new model; `must`: fail instead of starting a new "
        "model; `never`: always start a new model.",
        TRAINS,
        "auto",
    )
    confirm_fresh_start: bool = _input("Must be true with `resume: never`.", TRAINS, False)
    eval_interval: int | None = _input("Steps between evaluations.", TRAINS, shown="preset", ge=1)
    eval_tokens: int = _input("Number of held-out tokens per evaluation, 0 for all.", _READS, 65536, ge=0)
    checkpoint_interval: int | None = _input("Steps between checkpoints.", TRAINS, shown="preset", ge=1)
    checkpoint_minutes: float = _input(
        "Maximum minutes between checkpoints, 0 to save by checkpoint_interval only.", TRAINS, 15, ge=0
    )
    log_interval: int | None = _input("Steps between log lines.", TRAINS, shown="preset", ge=1)
    keep_checkpoints: int = _input("Number of checkpoints to keep. The best and the latest are always kept.", TRAINS, 3, ge=1)

    gate: str = _input(
        "Quality gate a model must pass before it is published, or a pull request in its review: `improved`, significantly "
        "better than the published model on the same held-out text; `not_worse=X`, not worse than it by X or more; "
        "`max_val_loss=X`, at most X nats per token; or `none`.",
        (*PUBLISHES, "compare"),
        "improved",
        pattern=r"^(none|improved|(not_worse|max_val_loss)=[0-9]+(\.[0-9]+)?)$",
        form="Use improved, not_worse=X such as not_worse=0.01, max_val_loss=X such as max_val_loss=3.5, or none.",
    )
    gate_fails_job: bool = _input(
        "Fail the job if the gate refuses the model, or if a reviewed pull request is refused.", (*PUBLISHES, "compare"), True
    )
    upload_training_state: bool = _input(
        "Publish the training state to the branch training-state, so that another job can resume exactly.", PUBLISHES, True
    )
    upload_datasets: bool = _input(
        "Publish the documents that the model was trained on, by split, as Parquet files.", PUBLISHES, False
    )
    dataset_repo_id: RepoId | None = _input(
        "Dataset repo to publish the documents to, as owner/name.",
        PUBLISHES,
        shown="repo_id with -dataset appended",
        form=f"Use the form owner/name, such as my-org/my-corpus. {_REPO_NAMES}",
    )
    dataset_layout: Literal["repo", "folder"] = _input(
        "`repo`: publish the documents to a dataset repo, which the model card cites at its commit; `folder`: to `datasets/` "
        "in the model repo, in the same commit as the model.",
        PUBLISHES,
        "repo",
    )
    promote: Literal["never", "better"] = _input(
        "`better`: tag the candidate on the Hub that is significantly better than all others. Only the tag `best` is ever "
        "moved.",
        ("compare",),
        "never",
    )
    tag: Text | None = _input(
        "Tag to set on the published commit, or on the winner of a comparison. `timestamp`: hf-deploy-<UTC time>.",
        (*PUBLISHES, "compare"),
        pattern=f"^{REVISION}$",
        shown="none; v<step> with create_release, best with promote",
        form="Use a tag name such as v1.0.",
    )
    create_release: bool = _input(
        "Create an annotated git tag and a GitHub release in this repository for a published model. Requires `contents: "
        "write`.",
        PUBLISHES,
        False,
    )
    private: bool = _input("Create the model repo and the dataset repo as private.", PUBLISHES, False)
    license: str | None = _input(
        "License of the model and the dataset, as a license identifier of the Hub.",
        PUBLISHES,
        pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}$",
        form="Use a license identifier of the Hub, such as mit or cc-by-4.0.",
    )
    language: Annotated[list[LanguageCode], BeforeValidator(_split)] | None = _input(
        "Language codes for the model card and the dataset card.", PUBLISHES, form="Use language codes such as en or pt-BR."
    )
    card: PathText | None = _input(
        "Markdown template for the model card: text between `<!-- echoself:NAME -->` and `<!-- /echoself:NAME -->` is "
        "replaced, all other text is kept.",
        PUBLISHES,
        shown="the card on the Hub, else the built-in template",
    )
    create_pr: bool = _input(
        "Open a pull request on the Hub, with the report of the gate, instead of committing. The training state is not "
        "published.",
        PUBLISHES,
        False,
    )
    sign: Annotated[PathText, BeforeValidator(_off)] = _input(
        "Sign the published files: the path of a private key (elliptic curve, PEM); `auto` to sign as this workflow with "
        "Sigstore (public log; requires `id-token: write`); or `off`.",
        PUBLISHES,
        "off",
    )
    verify: Annotated[Literal["auto", "require", "off"], BeforeValidator(_off)] = _input(
        "Verify the files against the published provenance.json: `auto` if there is one, `require` or `off`.",
        ("pull",),
        "auto",
    )
    signer: PathText | None = _input(
        "Reject files without a valid signature by this signer: the path of a public key, or a workflow as "
        "https://github.com/OWNER/REPO/.github/workflows/FILE@REF.",
        ("pull",),
    )
    dry_run: bool = _input("Print what would be published, without uploading anything.", PUBLISHES, False)

    runtime: Literal["docker", "host"] = _input(
        "Run in a container, or in a venv on a runner without Docker. Only as an input of the action.",
        _ALL,
        "docker",
    )
    image: str | None = _input(
        "Container image to run, as registry/name:tag or registry/name@digest. Only as an input of the action.",
        _ALL,
        shown="the image of this version of the action",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$",
    )

    @property
    def dataset_repo(self) -> str | None:
        """The dataset repo to publish the documents to; None if they are not published to one."""
        if not self.upload_datasets or self.dataset_layout == "folder":
            return None
        return self.dataset_repo_id or f"{self.repo_id}-dataset"

    @property
    def token(self) -> str | None:
        """The token in plain text, for the client only."""
        return self.hf_token.get_secret_value() if self.hf_token else None

    def size(self, name: str) -> Any:
        """An input that the preset has a default for: the value given, else the preset's."""
        given = getattr(self, name)
        return getattr(PRESETS[self.preset], name) if given is None else given


class TrainInputs(Inputs):
    """The inputs of a run that trains."""

    def training_settings(self, default_optimizer: OptimizerName) -> TrainingSettings:
        """The settings of the run: each is the input of its name."""
        preset = PRESETS[self.preset]
        optimizer = self.optimizer or default_optimizer
        values: dict[str, Any] = {
            name: self.size(name) if hasattr(preset, name) else getattr(self, name)
            for name in TrainingSettings.__dataclass_fields__
        }
        values |= {
            "optimizer": optimizer,
            "learning_rate": self.learning_rate or OPTIMIZERS[optimizer].learning_rates[self.preset],
        }
        return TrainingSettings(**values)


class DeployInputs(Inputs):
    """The inputs of a run that publishes."""

    repo_id: RepoId


class CycleInputs(DeployInputs, TrainInputs):  # in this order: pydantic takes a field from the first base
    """The inputs of a run that trains and publishes."""


class PullInputs(Inputs):
    """The inputs of a pull from the Hub."""

    repo_id: RepoId


class ImportInputs(Inputs):
    """The inputs of a pull that imports a checkpoint instead."""

    checkpoint: PathText


class CompareInputs(Inputs):
    """The inputs of a comparison."""

    candidates: Candidates

    @model_validator(mode="before")
    @classmethod
    def _default_candidates(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The published model and the best checkpoint in output_dir."""
        if "candidates" in values or "repo_id" not in values:
            return values
        revision = values.get("revision", Inputs.model_fields["revision"].default)
        published = values["repo_id"] if revision == "main" else f"{values['repo_id']}@{revision}"
        return {**values, "candidates": [published, str(values.get("output_dir", Inputs.model_fields["output_dir"].default))]}


class ReviewInputs(Inputs):
    """The inputs of a comparison that reviews pull requests."""

    repo_id: RepoId
    pull_requests: PullRequests


def type_of(mode: object, given: Any) -> type[Inputs]:
    """The type of the inputs of `mode`, where `given` has these names of inputs; `Inputs` if it is not a mode."""
    if mode == "pull":
        return ImportInputs if "checkpoint" in given else PullInputs
    if mode == "compare":
        return ReviewInputs if "pull_requests" in given else CompareInputs
    types: dict[object, type[Inputs]] = {"train": TrainInputs, "deploy": DeployInputs, "cycle": CycleInputs}
    return types.get(mode, Inputs) if isinstance(mode, str) else Inputs


def modes_of(name: str) -> list[str]:
    """The modes that an input belongs to."""
    return _extra(name)["modes"]  # type: ignore[no-any-return]


def form_of(name: str) -> str:
    """Advice for a value of an invalid format."""
    return _extra(name)["form"] or f"Expected: {Inputs.model_fields[name].description}"


def shown_default(name: str) -> str:
    """An input's default, as documentation shows it."""
    default, shown = Inputs.model_fields[name].default, _extra(name)["shown"]
    if shown:
        return str(shown)
    if isinstance(default, bool):
        return str(default).lower()
    return ", ".join(default) if isinstance(default, list) else "" if default is None else str(default)


def _extra(name: str) -> dict[str, Any]:
    extra = Inputs.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return extra
