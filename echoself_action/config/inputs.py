"""Every input of the action, declared once.

The help texts, action.yml and the tables of the documentation are made from it; load.py reads `Inputs` from the command line,
the inputs of the action and the YAML file.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints
from pydantic_core import PydanticCustomError

from ..checkpoint.architectures import ArchitectureName, DimensionNames
from ..hub.repo_id import REPO
from ..training.settings import PRESETS, Compile, Device, Dtype, OptimizerName, Sharding, TrainingSettings

Mode = Literal["train", "deploy", "pull", "cycle", "compare"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_CONFIG = ".github/echoself.yml"
AUTO = "auto"  # as `checkpoint`: look for one
LAUNCH_INPUTS = ("runtime", "image")  # launch.sh reads them, before there is a Python that could read flags or a file
NO_FLAGS = ("mode", "hf_token", *LAUNCH_INPUTS)

_ALL = MODES
TRAINS: tuple[Mode, ...] = ("train", "cycle")
PUBLISHES: tuple[Mode, ...] = ("deploy", "cycle")
_READS: tuple[Mode, ...] = (*TRAINS, "deploy", "compare")
_IMPORTS: tuple[Mode, ...] = (*_READS, "pull")


def _input(help: str, modes: tuple[Mode, ...], default: Any = None, shown: str | None = None, **limits: Any) -> Any:
    """A field; `shown` is what documentation gives as its default where the value itself would not tell."""
    return Field(default, description=help, json_schema_extra={"modes": list(modes), "shown": shown}, **limits)


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part for part in (piece.strip() for piece in re.split(r"[,\n]", value)) if part]
    return value


def _text(value: object) -> object:
    """YAML reads `tag: 1.0` or `revision: 2024` as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _off(value: object) -> object:
    """YAML 1.1 reads `verify: off` as a truth value."""
    return "off" if value is False else value


def _truth_in_words(value: object) -> object:
    """YAML reads `compile: true` as a truth value."""
    return str(value).lower() if isinstance(value, bool) else value


def _nameable(value: str) -> str:
    """Checked here, because a file system says it only after the work, and of a path that nobody wants to read."""
    if "\0" in value or len(value) > 4000 or any(len(part.encode()) > 255 for part in value.split("/")):
        raise PydanticCustomError("no_name", "no file or folder can have such a name")
    return value


def _repo(value: str) -> str:
    """Checked here, because huggingface_hub says it only after the work, and as if it were a bug of ours."""
    if not re.fullmatch(REPO, value):
        raise PydanticCustomError("string_pattern_mismatch", "no repo has such a name")
    return value


def _distinct(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("twice", "one stands in it twice")
    return values


Text = Annotated[str, BeforeValidator(_text)]
LanguageCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,12}(-[A-Za-z0-9]{1,8}){0,3}$")]
PathText = Annotated[str, AfterValidator(_nameable)]
RepoId = Annotated[Text, AfterValidator(_repo)]
REVISION = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"


class Inputs(BaseModel):
    """The inputs, parsed and checked. None where an input was not given and its default depends on others."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True, allow_inf_nan=False, defer_build=True
    )

    mode: Mode = _input("What to do.", _ALL, shown="required")
    config: str | None = _input("YAML file with any of these inputs.", _ALL, shown=f"{DEFAULT_CONFIG} where present")
    model: Text | None = _input("One of the `models` in the file, by its name.", _ALL, shown="all of them, one after the other")
    repo_id: RepoId | None = _input("Model repo on the Hub, owner/name.", _ALL)
    revision: Text = _input("Branch, tag or commit of the repo.", _ALL, "main", pattern=f"^{REVISION}$")
    hub: PathText | None = _input(
        "Which Hub: a URL, or `local` or a folder for a Hub on this machine.",
        _ALL,
        shown="HF_ENDPOINT or huggingface.co",
    )
    hf_token: SecretStr | None = _input("Token of the Hub; never a flag.", _ALL, shown="HF_TOKEN")
    checkpoint: PathText | None = _input(
        "Model folder or `.pt` file to deploy, to go on from or to take in; a glob that matches one; `auto` to look for one.",
        (*TRAINS, "deploy", "pull"),
        shown="the best one; for pull, the Hub's",
    )
    candidates: Annotated[list[PathText], BeforeValidator(_split), AfterValidator(_distinct)] | None = _input(
        "What to compare, two or more: model folders, `.pt` files, or Hub repos as owner/name or owner/name@revision.",
        ("compare",),
        shown="the Hub's and the best in output_dir",
        min_length=2,
    )
    pull_requests: Annotated[Text, StringConstraints(pattern=r"^(open|[1-9][0-9]{0,8})$")] | None = _input(
        "Check pull requests to repo_id on the Hub, and comment on each with the verdict: `open`, those that are open and have "
        "changed since they were checked; or the number of one.",
        ("compare",),
    )
    output_dir: Annotated[Path, BeforeValidator(lambda value: _nameable(str(value)))] = _input(
        "Where checkpoints go; of one of several models, the folder of its name in there.", _ALL, Path("echoself-model")
    )

    formats: Annotated[list[Literal["nanogpt", "nanecho"]], BeforeValidator(_split)] = _input(
        "Further exports into output_dir: `nanogpt`, a nanogpt/ckpt.pt that its train.py resumes from; `nanecho`, a "
        "nanecho/cache that its trainer resumes from.",
        ("pull",),
        [],
    )

    data: Annotated[list[PathText], BeforeValidator(_split)] = _input(
        "Globs of text, Markdown, code, JSONL or JSON (`text` or chat `messages`), Parquet, or nanoGPT .bin "
        "files; or a dataset on the Hub as hf://datasets/owner/name or hf://datasets/owner/name@revision.",
        _READS,
        ["**/*.md"],
        min_length=1,
    )
    val_fraction: float = _input("Share of the documents that is held out.", _READS, 0.1, gt=0, le=0.5)
    on_bad_file: Literal["fail", "skip"] = _input("What to do with a file that is not what its name says.", _READS, "fail")
    tokenizer: PathText | None = _input(
        "`gpt2`, `bpe:<size>` trained on the corpus, `bytes`, or the path of a tokenizer.json or of nanoGPT's meta.pkl.",
        _IMPORTS,
        pattern=r"^(gpt2|bytes|bpe:[1-9][0-9]*|.+\.(json|pkl))$",
        shown="the continued model's, else gpt2",
    )

    preset: Literal["ci", "scheduled", "full"] = _input("Sizes and budgets for the inputs below.", TRAINS, "ci")
    architecture: ArchitectureName | None = _input(
        "`gpt2`; or `nanecho`, which transformers loads only with trust_remote_code=True.",
        TRAINS,
        shown="the continued model's, else gpt2",
    )
    persona_dimensions: Annotated[DimensionNames, BeforeValidator(_split)] | None = _input(
        "Names of a new NanEcho's persona dimensions.", TRAINS, shown="the eight of Echo Self"
    )
    n_layer: int | None = _input("Transformer blocks.", TRAINS, shown="preset", ge=1)
    n_head: int | None = _input(
        "Attention heads; of a checkpoint, where its file does not say.", _IMPORTS, shown="preset", ge=1
    )
    n_embd: int | None = _input("Width.", TRAINS, shown="preset", ge=1)
    block_size: int | None = _input("Tokens that the model sees at once.", TRAINS, shown="preset", ge=1)
    dropout: float | None = _input("Dropout rate.", TRAINS, shown="preset", ge=0, lt=1)
    bias: bool | None = _input("Biases in linear layers and layer norms.", TRAINS, shown="true")
    max_iters: int | None = _input("Additional steps of this run.", TRAINS, shown="preset", ge=1)
    max_minutes: float | None = _input("Wall-clock budget of this run, 0 for none.", TRAINS, shown="preset", ge=0)
    batch_size: int | None = _input("Sequences at once.", TRAINS, shown="preset", ge=1)
    gradient_accumulation: int | None = _input("Batches a step.", TRAINS, shown="preset", ge=1)
    optimizer: OptimizerName | None = _input(
        "muon: for the matrices inside the blocks, and AdamW for the rest; or adamw.",
        TRAINS,
        shown="the checkpoint's; of a new GPT-2 muon, of a new NanEcho adamw",
    )
    learning_rate: float | None = _input("Peak learning rate.", TRAINS, shown="preset", gt=0)
    total_iters: int | None = _input(
        "Steps over all runs that the learning rate falls over, as a cosine; without it the rate is constant, and falls at the "
        "end of every run, on a branch.",
        TRAINS,
        shown="open-ended",
        ge=1,
    )
    decay: float = _input("Share of a run's steps that the rate falls over, without total_iters.", TRAINS, 0.2, ge=0, lt=1)
    warmup: int | None = _input("Steps of linear warmup.", TRAINS, shown="a twentieth of the run", ge=0)
    weight_decay: float = _input("Weight decay of matrices.", TRAINS, 0.1, ge=0)
    grad_clip: float = _input("Largest gradient norm, 0 for no clipping.", TRAINS, 1.0, ge=0)
    seed: int = _input("Seed of the weights, batches and dropout.", TRAINS, 1337, ge=0)
    dtype: Dtype = _input(
        "Precision of matrix products; auto: bfloat16 where it is fast, on an older GPU float16.", TRAINS, "auto"
    )
    compile: Annotated[Compile, BeforeValidator(_truth_in_words)] = _input(
        "torch.compile; auto: where the steps to go repay it. It needs a compiler, and on a CPU dropout: 0.", TRAINS, "auto"
    )
    device: Device = _input("Where to train; auto: a GPU where there is one.", TRAINS, "auto")
    processes: Annotated[int, BeforeValidator(lambda value: 0 if value == AUTO else value)] = _input(
        "Processes on this machine that share each batch; auto: one for each GPU.", TRAINS, 1, ge=0
    )
    sharding: Sharding = _input(
        "Of several processes: none: each has the whole model; full: each has a part of it.", TRAINS, "none"
    )
    resume: Literal["auto", "never", "must"] = _input(
        "auto: go on from output_dir, else from repo_id, else start fresh; must: fail rather than start fresh.",
        TRAINS,
        "auto",
    )
    confirm_fresh_start: bool = _input("Needed with `resume: never`.", TRAINS, False)
    eval_interval: int | None = _input("Steps between evaluations.", TRAINS, shown="preset", ge=1)
    eval_tokens: int = _input("Held-out tokens that an evaluation reads, 0 for all.", _READS, 65536, ge=0)
    checkpoint_interval: int | None = _input("Steps between checkpoints.", TRAINS, shown="preset", ge=1)
    checkpoint_minutes: float = _input("Minutes between checkpoints, 0: by steps alone.", TRAINS, 15, ge=0)
    log_interval: int | None = _input("Steps between logged losses.", TRAINS, shown="preset", ge=1)
    keep_checkpoints: int = _input("Checkpoints that stay; the best and the latest always do.", TRAINS, 3, ge=1)

    gate: str = _input(
        "What a model must be to be published, or a pull request to pass: `improved`, compared with what is published on the "
        "same held-out text; `not_worse=X` by more than X; `max_val_loss=X`, in nats per token; or `none`.",
        (*PUBLISHES, "compare"),
        "improved",
        pattern=r"^(none|improved|(not_worse|max_val_loss)=[0-9]+(\.[0-9]+)?)$",
    )
    gate_fails_job: bool = _input(
        "Whether a model that the gate refuses, or a pull request that is refused, fails the job.",
        (*PUBLISHES, "compare"),
        True,
    )
    upload_training_state: bool = _input("Keep exact continuation on the Hub, on branch training-state.", PUBLISHES, True)
    upload_datasets: bool = _input(
        "Publish the documents that the model was trained on, in their splits, as Parquet.", PUBLISHES, False
    )
    dataset_repo_id: RepoId | None = _input(
        "Dataset repo for the documents, owner/name.", PUBLISHES, shown="repo_id with -dataset after it"
    )
    dataset_layout: Literal["repo", "folder"] = _input(
        "`repo`: the documents in a dataset repo, which the model names at its commit; `folder`: in `datasets/` of the model "
        "repo, in the commit of the model.",
        PUBLISHES,
        "repo",
    )
    promote: Literal["never", "better"] = _input(
        "`better`: tag the candidate on the Hub that is surely better than the others. Of all tags, `best` alone may move.",
        ("compare",),
        "never",
    )
    tag: Text | None = _input(
        "Tag for the published commit, or for the winner of a comparison; `timestamp` stands for hf-deploy-<UTC time>.",
        (*PUBLISHES, "compare"),
        pattern=f"^{REVISION}$",
        shown="none; with create_release v<step>, with promote best",
    )
    create_release: bool = _input(
        "With a published model, make an annotated git tag and a release in this repository; needs `contents: write`.",
        PUBLISHES,
        False,
    )
    private: bool = _input("Make the repo private when it is created, and likewise the dataset repo.", PUBLISHES, False)
    license: str | None = _input(
        "License of the model and of the dataset, as the Hub names it.", PUBLISHES, pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}$"
    )
    language: Annotated[list[LanguageCode], BeforeValidator(_split)] | None = _input("Language codes for the cards.", PUBLISHES)
    card: PathText | None = _input(
        "Markdown file to make the model card from: what stands between `<!-- echoself:NAME -->` and `<!-- /echoself:NAME -->` "
        "is replaced, all else is kept.",
        PUBLISHES,
        shown="the one on the Hub, else ours",
    )
    create_pr: bool = _input(
        "Open a pull request on the Hub in place of a commit, with the gate's report and without the training state.",
        PUBLISHES,
        False,
    )
    sign: Annotated[PathText, BeforeValidator(_off)] = _input(
        "Sign what is published: with the private key (elliptic curve, PEM) at this path; `auto`: as this workflow, by "
        "Sigstore (its log is public), where the job has `id-token: write`; or `off`.",
        PUBLISHES,
        "off",
    )
    verify: Annotated[Literal["auto", "require", "off"], BeforeValidator(_off)] = _input(
        "Hold the files to the provenance.json that was published with them: `auto`, where there is one; `require`; or `off`.",
        ("pull",),
        "auto",
    )
    signer: PathText | None = _input(
        "Who must have signed the files: the path of a public key, or a workflow as https://github.com/OWNER/REPO/.github/"
        "workflows/FILE@REF. What is not signed so is not taken.",
        ("pull",),
    )
    dry_run: bool = _input("Print what would be published, upload nothing.", PUBLISHES, False)

    runtime: Literal["docker", "host"] = _input(
        "Where the action runs: in a container, or in a venv on a runner without Docker. Only as an input of the action.",
        _ALL,
        "docker",
    )
    image: str | None = _input(
        "Image to run, as registry/name:tag or registry/name@digest. Only as an input of the action.",
        _ALL,
        shown="the one of the action's version",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$",
    )

    @property
    def dataset_repo(self) -> str | None:
        """The dataset repo to publish the documents in; None where they go to none."""
        if not self.upload_datasets or self.dataset_layout == "folder":
            return None
        return self.dataset_repo_id or f"{self.repo_id}-dataset"

    @property
    def token(self) -> str | None:
        """The token in plain text, for the client alone."""
        return self.hf_token.get_secret_value() if self.hf_token else None

    def size(self, name: str) -> Any:
        """An input of the preset's: the one given, else the preset's."""
        given = getattr(self, name)
        return getattr(PRESETS[self.preset], name) if given is None else given

    def training_settings(self, optimizer: OptimizerName) -> TrainingSettings:
        """The settings of a run, which takes its steps with `optimizer` where none was given."""
        preset = PRESETS[self.preset]
        optimizer = self.optimizer or optimizer
        values: dict[str, Any] = {
            name: self.size(name) if hasattr(preset, name) else getattr(self, name)
            for name in TrainingSettings.__dataclass_fields__
        }
        values |= {"optimizer": optimizer, "learning_rate": self.learning_rate or preset.learning_rate_of(optimizer)}
        return TrainingSettings(**values)


def modes_of(name: str) -> list[str]:
    """The modes that an input belongs to."""
    extra = Inputs.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return extra["modes"]  # type: ignore[return-value]


def shown_default(name: str) -> str:
    """An input's default, as documentation shows it."""
    declared = Inputs.model_fields[name]
    extra, default = declared.json_schema_extra, declared.default
    assert isinstance(extra, dict)
    if extra["shown"]:
        return str(extra["shown"])
    if isinstance(default, bool):
        return str(default).lower()
    return ", ".join(default) if isinstance(default, list) else "" if default is None else str(default)
