"""The table of inputs. Those of training are declared in training/settings.py.

The help texts, action.yml and the tables of the documentation are made from `Inputs`; load.py reads it from the command line,
the inputs of the action and the YAML file. mode_inputs.py has a type for each mode.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, SecretStr, WithJsonSchema

from ..checkpoint.architectures import NANECHO_PATHS, ArchitectureName, DimensionNames
from ..formats.runtimes.runtime_formats import EXPORTS_HELP, ONNX, PUBLISHED, ExportName
from ..input_field import MODES, PUBLISHES, READS_CORPUS, TRAINS, InputTable, Mode, declared, input_field
from ..model.config import Activation
from ..training.auto_preset import MINUTES
from ..training.settings import PRESETS, AutoOrBoolean, PresetName, TrainingInputs
from .input_types import (
    PATH,
    REPO_ID_FORM,
    REPO_NAMES,
    REVISION,
    Candidates,
    Languages,
    License,
    NanEchoPaths,
    PathText,
    PullRequests,
    RepoId,
    check_path,
    distinct,
    off_as_text,
    split,
)

DEFAULT_CONFIG = ".github/echoself.yml"
ECHO_FIDELITY = "echo-fidelity"  # in `evaluate`
AUTO = "auto"  # as `checkpoint`: search for one
LAUNCH_INPUTS = ("runtime", "image")  # launch.sh reads them, before there is a Python that could read flags or a file
NO_FLAGS = ("mode", "hf_token", "settings", "phases", *LAUNCH_INPUTS)

# The inputs of the action, in the order of action.yml. All others are settings: lines of the input `settings`, keys of the YAML
# file, or flags.
ACTION_INPUTS = (
    "mode", "repo_id", "data", "hf_token", "init_from", "checkpoint", "preset", "tokenizer", "max_minutes", "max_iters",
    "output_dir", "revision", "hub", "gate", "tag", "create_release", "create_pr", "comment", "upload_datasets", "license",
    "private", "dry_run", "config", "settings", "runtime", "image",
)  # fmt: skip


class _ModelInputs(InputTable):
    """The inputs that select a model, its corpus and its size."""

    mode: Mode = input_field("run", "What to do: train, deploy, pull, cycle or compare.", MODES, shown="required")
    config: str | None = input_field(
        "run",
        "YAML file of inputs and settings. An input of the action overrides it.",
        MODES,
        shown=f"{DEFAULT_CONFIG}, if it exists",
    )
    settings: str | None = input_field(
        "run",
        "Any other setting, one per line as `n_layer: 6`; docs/settings.md lists them. Overrides the file of `config`.",
        MODES,
        shown="none",
    )
    model: str | None = input_field(
        "run",
        "Name of the model to run, one of `models` in the YAML file.",
        MODES,
        shown="all of them, one after the other",
        form="Use one of the names under models in the file.",
    )
    repo_id: RepoId | None = input_field(
        "hub", "Model repo on the Hub, as owner/name.", MODES, form=f"{REPO_ID_FORM} {REPO_NAMES}"
    )
    revision: str = input_field(
        "hub",
        "Branch, tag or commit of the model repo.",
        MODES,
        "main",
        pattern=f"^{REVISION}$",
        form="Use the name of a branch, a tag or a commit.",
    )
    hub: PathText | None = input_field(
        "hub",
        "URL of the Hub; or `local`, or a folder, for a local Hub on this machine.",
        MODES,
        shown="HF_ENDPOINT or huggingface.co",
    )
    hf_token: SecretStr | None = input_field(
        "hub", "Access token of the Hub. Cannot be passed as a flag.", MODES, shown="HF_TOKEN"
    )
    checkpoint: PathText | None = input_field(
        "start",
        "Model folder or checkpoint file (`.pt`, `.ckpt`, `.bin`) to deploy, resume from or import; a glob that matches "
        "exactly one; or `auto` to search for one.",
        (*TRAINS, "deploy", "pull"),
        shown="the best checkpoint in output_dir; for pull, the model on the Hub",
    )
    init_from: PathText | None = input_field(
        "start",
        "Pretrained GPT-2 to start a new model from: on the Hub, as openai-community/gpt2 or owner/name@revision; a folder; or "
        "a `.pt` file. Not used if there is a checkpoint to resume from.",
        TRAINS,
        shown="random weights",
    )
    candidates: Candidates | None = input_field(
        "comparing",
        "Two or more models to compare: model folders, `.pt` files, or Hub repos as owner/name or owner/name@revision.",
        ("compare",),
        shown="the model on the Hub and the best checkpoint in output_dir",
    )
    pull_requests: PullRequests | None = input_field(
        "comparing",
        "Review pull requests to repo_id on the Hub and comment the verdict on each: `open` for every open one that has "
        "changed since its last review, or the number of one.",
        ("compare",),
        form="Use open, or the number of a pull request.",
    )
    output_dir: Annotated[
        Path, BeforeValidator(lambda value: check_path(value) if isinstance(value, str) else value), WithJsonSchema(PATH)
    ] = input_field(
        "checkpoints",
        "Folder to save checkpoints in. With several models, each uses a subfolder of its name.",
        MODES,
        Path("echoself-model"),
    )

    formats: Annotated[list[ExportName], BeforeValidator(split), AfterValidator(distinct)] = input_field(
        "checkpoints",
        f"Write the model for other programs too, into output_dir: {EXPORTS_HELP}. Published with the model, after a check in "
        f"these programs: {' and '.join(f'`{name}`' for name in PUBLISHED)}.",
        ("pull", *PUBLISHES),
        [],
        shown="none",
    )

    data: Annotated[list[PathText], BeforeValidator(split)] = input_field(
        "data",
        "Training data: globs of text, Markdown, code, notebooks, JSONL, JSON, CSV, Parquet or nanoGPT .bin files; or a "
        "dataset on the Hub, as hf://datasets/owner/name or hf://datasets/owner/name@revision.",
        READS_CORPUS,
        ["**/*.md"],
        min_length=1,
    )
    val_fraction: float = input_field(
        "data", "Fraction of the documents held out for validation.", READS_CORPUS, 0.1, gt=0, le=0.5
    )
    on_bad_file: Literal["fail", "skip"] = input_field(
        "data",
        "What to do with a file or record that cannot be read: end the run, or skip and report it.",
        READS_CORPUS,
        "fail",
    )
    text_column: str | None = input_field(
        "data",
        "Name of the field of JSONL and JSON records, or of the Parquet column, that has the text. All others are not learnt.",
        READS_CORPUS,
        shown="a known field or set of fields, such as `text`, `messages`, or `prompt` and `completion`",
    )
    tokenizer: PathText | None = input_field(
        "data",
        "`gpt2`; `bytes`; `bpe:<size>` to train one on the corpus; the path of a tokenizer.json, of nanoGPT's meta.pkl, or "
        "of a folder (`./name`); `code_points` or `printable_ascii` for older NanEcho models (docs/migration.md); or, for a "
        "new model, a repo on the Hub, as owner/name or owner/name@revision.",
        (*READS_CORPUS, "pull"),
        pattern=r"^(gpt2|bytes|code_points|printable_ascii|bpe:[1-9][0-9]*|.+\.(json|pkl)|.+/.*)$",
        shown="the checkpoint's; for a new model bpe:<size>, by the size of the corpus",
        form="Use gpt2, bytes, bpe:<size> such as bpe:4096, or the path of a tokenizer.json, a meta.pkl or a folder (./name).",
    )

    preset: PresetName = input_field(
        "model",
        "Model size and training budget. `auto` fits a new model to the corpus, the time and this machine; the others have "
        "fixed sizes.",
        TRAINS,
        "auto",
    )
    architecture: ArchitectureName | None = input_field(
        "model",
        "`gpt2`; or `nanecho`, which transformers loads only with trust_remote_code=True.",
        TRAINS,
        shown="the checkpoint's; gpt2 for a new model",
    )
    persona_dimensions: Annotated[DimensionNames, BeforeValidator(split)] | None = input_field(
        "model",
        "Names of the persona dimensions of a new NanEcho model.",
        TRAINS,
        shown="the eight of Echo Self",
        form="Use names of letters, digits and underscores.",
    )
    nanecho_paths: NanEchoPaths | None = input_field(
        "model",
        f"The paths that a new NanEcho model has, of {', '.join(f'`{name}`' for name in NANECHO_PATHS)}; or `none`. A model "
        "without a path, trained beside one with all, shows what the path is worth.",
        TRAINS,
        shown="all of them",
        form=f"Use some of {', '.join(NANECHO_PATHS)}; or none.",
    )
    n_layer: int | None = input_field("model", "Number of transformer blocks.", TRAINS, shown="preset", ge=1)
    n_head: int | None = input_field(
        "model",
        "Number of attention heads. Required for an imported checkpoint that does not record it.",
        (*READS_CORPUS, "pull"),
        shown="preset",
        ge=1,
    )
    n_embd: int | None = input_field("model", "Embedding size (hidden width).", TRAINS, shown="preset", ge=1)
    block_size: int | None = input_field("model", "Context length, in tokens.", TRAINS, shown="preset", ge=1)
    dropout: float | None = input_field("model", "Dropout probability.", TRAINS, shown="preset", ge=0, lt=1)
    activation: Activation | None = input_field(
        "model",
        "Activation function of the MLP: `gelu`, the exact GELU, or `gelu_new`, its tanh approximation, as in OpenAI's GPT-2 "
        "and llama.cpp (figures: docs/recipe.md). For an imported checkpoint that does not record it, instead of the one that "
        "its layout suggests.",
        (*READS_CORPUS, "pull"),
        shown="the checkpoint's; gelu for a new model",
    )
    introspection: AutoOrBoolean = input_field(
        "evaluation",
        "Measure at the end of training what is inside the best model: the entropy of its attention and, of a NanEcho, what "
        "each of its paths does for the loss (docs/evaluation.md). `auto`: only of a NanEcho.",
        TRAINS,
        "auto",
    )
    bias: bool | None = input_field("model", "Use biases in linear layers and layer norms.", TRAINS, shown="true")


class Inputs(TrainingInputs[None], _ModelInputs):  # pydantic lists the fields of the last base first
    """The inputs, parsed and validated. None if an input was not given and its default depends on other inputs."""

    gate: str = input_field(
        "publishing",
        "Quality gate a model must pass before it is published, or a pull request in its review: `improved` (significantly "
        "better than the published model), `not_worse=X` or `max_val_loss=X` (nats per token), or `none`.",
        (*PUBLISHES, "compare"),
        "improved",
        pattern=r"^(none|improved|(not_worse|max_val_loss)=[0-9]+(\.[0-9]+)?)$",
        form="Use improved, not_worse=X such as not_worse=0.01, max_val_loss=X such as max_val_loss=3.5, or none.",
    )
    evaluate: Annotated[list[PathText], BeforeValidator(split)] = input_field(
        "evaluation",
        "Questions with expected answers to score models on: globs of JSON Lines files, or `held-out` for the questions and "
        "answers of the corpus that are held out; and `echo-fidelity`, EchoSelf's measure of its own words, when a model is "
        "trained or published. See docs/evaluation.md.",
        READS_CORPUS,
        [],
        shown="none",
    )
    evaluate_questions: int = input_field(
        "evaluation",
        "Maximum number of questions to score a model on, chosen by a hash of their text. 0 for all.",
        READS_CORPUS,
        200,
        ge=0,
    )
    evaluate_gate: str = input_field(
        "publishing",
        "What a model must reach on the questions of `evaluate`, beside `gate`: `not_worse` (not significantly worse than the "
        "published model), `improved` (significantly better), `accuracy=X` (a share of at least X), or `none`.",
        PUBLISHES,
        "none",
        pattern=r"^(none|not_worse|improved|accuracy=(0(\.[0-9]+)?|1(\.0+)?|\.[0-9]+))$",
        form="Use not_worse, improved, accuracy=X with a share such as accuracy=0.6, or none.",
    )
    gate_fails_job: bool = input_field(
        "publishing",
        "Fail the job if the gate refuses the model, or if a reviewed pull request is refused.",
        (*PUBLISHES, "compare"),
        False,
    )
    upload_training_state: bool = input_field(
        "publishing",
        "Publish the training state to the branch training-state, so that another job can resume exactly.",
        PUBLISHES,
        True,
    )
    upload_datasets: bool = input_field(
        "publishing",
        "Publish the documents that the model was trained on, by split, as Parquet files.",
        PUBLISHES,
        False,
    )
    dataset_repo_id: RepoId | None = input_field(
        "publishing",
        "Dataset repo to publish the documents to, as owner/name.",
        PUBLISHES,
        shown="repo_id with -dataset appended",
        form=f"Use the form owner/name, such as my-org/my-corpus. {REPO_NAMES}",
    )
    dataset_layout: Literal["repo", "folder"] = input_field(
        "publishing",
        "`repo`: publish the documents to a dataset repo, which the model card cites at its commit; `folder`: to `datasets/` "
        "in the model repo, in the same commit as the model.",
        PUBLISHES,
        "repo",
    )
    demo: bool = input_field(
        "publishing",
        "Publish a page that runs the model in the browser, as a static Space beside the model, and write it to "
        "output_dir/demo. Adds `onnx` to `formats`.",
        PUBLISHES,
        False,
    )
    demo_repo_id: RepoId | None = input_field(
        "publishing",
        "Space to publish the page to, as owner/name.",
        PUBLISHES,
        shown="repo_id with -demo appended",
        form=f"Use the form owner/name, such as my-org/my-demo. {REPO_NAMES}",
    )
    promote: Literal["never", "better"] = input_field(
        "comparing",
        "`better`: tag the candidate on the Hub that is significantly better than all others. Only the tag `best` is ever "
        "moved.",
        ("compare",),
        "never",
    )
    tag: str | None = input_field(
        "publishing",
        "Tag to set on the published commit, or on the winner of a comparison. `timestamp`: hf-deploy-<UTC time>.",
        (*PUBLISHES, "compare"),
        pattern=f"^{REVISION}$",
        shown="none; v<step> with create_release, best with promote",
        form="Use a tag name such as v1.0.",
    )
    create_release: bool = input_field(
        "publishing",
        "Create an annotated git tag and a GitHub release in this repository for a published model. Requires `contents: "
        "write`.",
        PUBLISHES,
        False,
    )
    private: bool = input_field(
        "publishing", "Create the model repo, the dataset repo and the Space as private.", PUBLISHES, False
    )
    license: License | None = input_field(
        "card",
        "License of the model and the dataset, as a license identifier of the Hub; `other` for one that the Hub does not list.",
        PUBLISHES,
        form="Use one of https://huggingface.co/docs/hub/repositories-licenses, such as mit or cc-by-4.0; for any other "
        "license use other, with its name as license_name.",
    )
    license_name: str | None = input_field(
        "card",
        "Name of the license, with `license: other`.",
        PUBLISHES,
        pattern=r"^[a-z0-9][a-z0-9.-]{0,99}$",
        form="Use lowercase letters, digits, dots and dashes, such as my-license-1.0.",
    )
    license_link: str | None = input_field(
        "card",
        "Link to the text of the license, with `license: other`: a URL, or LICENSE or LICENSE.md for a file of the repo.",
        PUBLISHES,
        pattern=r"^(LICENSE(\.md)?|https?://[^\s<>\x22]+)$",
        form="Use a URL, or LICENSE or LICENSE.md.",
    )
    language: Languages | None = input_field(
        "card",
        "Languages of the texts, for the model card and the dataset card: ISO 639 codes such as en.",
        PUBLISHES,
        form="Use codes such as en, pt or pt-BR; code or multilingual.",
    )
    card: PathText | None = input_field(
        "card",
        "Markdown template for the model card: text between `<!-- echoself:NAME -->` and `<!-- /echoself:NAME -->` is "
        "replaced, all other text is kept.",
        PUBLISHES,
        shown="the card on the Hub, else the built-in template",
    )
    create_pr: bool = input_field(
        "publishing",
        "Open a pull request on the Hub, with the report of the gate, instead of committing. The training state is not "
        "published.",
        PUBLISHES,
        False,
    )
    sign: Annotated[PathText, BeforeValidator(off_as_text)] = input_field(
        "signing",
        "Sign the published files: the path of a private key (elliptic curve, PEM); `auto` to sign as this workflow with "
        "Sigstore (public log; requires `id-token: write`); or `off`.",
        PUBLISHES,
        "off",
    )
    verify: Annotated[
        Literal["auto", "require", "off"],
        BeforeValidator(off_as_text),
        WithJsonSchema({"enum": ["auto", "require", "off", False]}),
    ] = input_field(
        "signing",
        "Verify the files against the published provenance.json: `auto` if there is one, `require` or `off`.",
        ("pull",),
        "auto",
    )
    signer: PathText | None = input_field(
        "signing",
        "Reject files without a valid signature by this signer: the path of a public key, or a workflow as "
        "https://github.com/OWNER/REPO/.github/workflows/FILE@REF.",
        ("pull",),
    )
    comment: bool = input_field(
        "publishing",
        "Post the result as one comment on the pull request of the workflow, updated by later runs. Requires `pull-requests: "
        "write`.",
        READS_CORPUS,
        False,
    )
    dry_run: bool = input_field("publishing", "Print what would be published, without uploading anything.", PUBLISHES, False)

    runtime: Literal["auto", "docker", "host"] = input_field(
        "run",
        "Run in a container (`docker`) or in a venv (`host`). `auto`: in a container if Docker can run one for the job, else "
        "in a venv.",
        MODES,
        "auto",
    )
    image: str | None = input_field(
        "run",
        "Container image to run, as registry/name:tag or registry/name@digest.",
        MODES,
        shown="the image of this version of the action",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$",
    )

    @property
    def question_sources(self) -> list[str]:
        """Where `evaluate` has questions from: all but `echo-fidelity`, which has prompts of its own."""
        return [source for source in self.evaluate if source != ECHO_FIDELITY]

    @property
    def dataset_repo(self) -> str | None:
        """The dataset repo to publish the documents to; None if they are not published to one."""
        if not self.upload_datasets or self.dataset_layout == "folder":
            return None
        return self.dataset_repo_id or f"{self.repo_id}-dataset"

    @property
    def exported_formats(self) -> list[str]:
        """`formats`, and what the page of `demo` runs."""
        added = [ONNX.name] if self.demo and ONNX.name not in self.formats else []
        return [*self.formats, *added]

    @property
    def demo_repo(self) -> str | None:
        """The Space for the page of `demo`; None without it."""
        return (self.demo_repo_id or f"{self.repo_id}-demo") if self.demo else None

    @property
    def token(self) -> str | None:
        """The token in plain text, for the client only."""
        return self.hf_token.get_secret_value() if self.hf_token else None

    def size(self, name: str) -> Any:
        """An input that the preset has a default for: the value given, else the preset's; None if `auto` decides it later."""
        given = getattr(self, name)
        if given is not None:
            return given
        if self.preset == "auto":
            return MINUTES if name == "max_minutes" and self.max_iters is None else None
        return getattr(PRESETS[self.preset], name)


def modes_of(name: str) -> list[str]:
    """The modes that an input belongs to."""
    modes: list[str] = declared(Inputs.model_fields[name], "modes")
    return modes


def form_of(name: str) -> str:
    """Advice for a value of an invalid format."""
    return declared(Inputs.model_fields[name], "form") or f"Expected: {Inputs.model_fields[name].description}"


def shown_default(name: str) -> str:
    """An input's default, as documentation shows it."""
    field = Inputs.model_fields[name]
    default, shown = field.default, declared(field, "shown")
    if shown:
        return str(shown)
    if isinstance(default, bool):
        return str(default).lower()
    return ", ".join(default) if isinstance(default, list) else "" if default is None else str(default)


def help_with_default(name: str) -> str:
    """The help text of an input, and a sentence about its default."""
    shown = {"required": "Required.", "preset": "Default: that of the preset.", "": ""}
    default = shown_default(name)
    return f"{Inputs.model_fields[name].description} {shown.get(default, f'Default: {default}.')}".rstrip()
