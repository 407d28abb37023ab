"""Every input and output of the action, declared once.

The command line, the action's variable and the YAML file all fill `Inputs`; help texts and the README's tables are made
from it. A flag beats an action input, which beats the file, which beats the default; an empty string is "not given".
`load_inputs` reports everything that is wrong at once.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from .checkpoint.metadata import Architecture, DimensionNames
from .errors import InputError
from .training.settings import PRESETS, Device, Dtype, Sharding, TrainingSettings

Mode = Literal["train", "deploy", "pull", "cycle"]
MODES: tuple[Mode, ...] = get_args(Mode)
ACTION_VARIABLE = "ECHOSELF_INPUTS"
DEFAULT_CONFIG = ".github/echoself.yml"
AUTO = "auto"  # as `checkpoint`: look for one
LAUNCH_INPUTS = ("runtime", "image")  # launch.sh reads them, before there is a Python that could read flags or a file
NO_FLAGS = ("mode", "hf_token", *LAUNCH_INPUTS)

_ALL = MODES
_TRAINS: tuple[Mode, ...] = ("train", "cycle")
_HUB: tuple[Mode, ...] = ("deploy", "cycle")


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


def _nameable(value: str) -> str:
    """Checked here, because a file system says it only after the work, and of a path that nobody wants to read."""
    if "\0" in value or len(value) > 4000 or any(len(part.encode()) > 255 for part in value.split("/")):
        raise PydanticCustomError("no_name", "no file or folder can have such a name")
    return value


Text = Annotated[str, BeforeValidator(_text)]
LanguageCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,12}(-[A-Za-z0-9]{1,8}){0,3}$")]
PathText = Annotated[str, AfterValidator(_nameable)]
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_REVISION = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"


class _WrongInputsError(Exception):
    """What is wrong with the merged inputs: (input, message, fix) each. Made a list for the reader by `load_inputs`."""

    def __init__(self, problems: Sequence[tuple[str, str, str]]) -> None:
        super().__init__(problems)
        self.problems = problems


class Inputs(BaseSettings):
    """The inputs, parsed and checked. None where an input was not given and its default depends on others."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    mode: Mode = _input("What to do.", _ALL, shown="required")
    config: str | None = _input("YAML file with any of these inputs.", _ALL, shown=f"{DEFAULT_CONFIG} where present")
    repo_id: Text | None = _input("Model repo on the Hub, owner/name.", _ALL, pattern=f"^{_NAME}/{_NAME}$", max_length=96)
    revision: Text = _input("Branch, tag or commit of the repo.", _ALL, "main", pattern=f"^{_REVISION}$")
    hub: PathText | None = _input(
        "Which Hub: a URL, or `local` or a folder for a Hub on this machine.",
        _ALL,
        shown="HF_ENDPOINT or huggingface.co",
    )
    hf_token: SecretStr | None = _input("Token of the Hub; never a flag.", _ALL, shown="HF_TOKEN")
    checkpoint: PathText | None = _input(
        "Model folder or `.pt` file to deploy, to go on from or to take in; a glob that matches one; `auto` to look for one.",
        _ALL,
        shown="the best one; for pull, the Hub's",
    )
    output_dir: Annotated[Path, BeforeValidator(lambda value: _nameable(str(value)))] = _input(
        "Where checkpoints go.", _ALL, Path("echoself-model")
    )

    formats: Annotated[list[Literal["nanogpt", "nanecho"]], BeforeValidator(_split)] = _input(
        "Further exports into output_dir: `nanogpt`, a nanogpt/ckpt.pt that its train.py resumes from; `nanecho`, a "
        "nanecho/cache that its trainer resumes from.",
        ("pull",),
        [],
    )

    data: Annotated[list[PathText], BeforeValidator(_split)] = _input(
        "Globs of text, Markdown, code, JSONL or JSON (`text` or chat `messages`), Parquet, or nanoGPT .bin files.",
        _TRAINS,
        ["**/*.md"],
        min_length=1,
    )
    val_fraction: float = _input("Share of the documents that is held out.", _TRAINS, 0.1, gt=0, le=0.5)
    on_bad_file: Literal["fail", "skip"] = _input("What to do with a file that is not what its name says.", _TRAINS, "fail")
    tokenizer: PathText | None = _input(
        "`gpt2`, `bpe:<size>` trained on the corpus, `bytes`, or the path of a tokenizer.json or of nanoGPT's meta.pkl.",
        (*_TRAINS, "deploy", "pull"),
        pattern=r"^(gpt2|bytes|bpe:[1-9][0-9]*|.+\.(json|pkl))$",
        shown="the continued model's, else gpt2",
    )

    preset: Literal["ci", "scheduled", "full"] = _input("Sizes and budgets for the inputs below.", _TRAINS, "ci")
    architecture: Architecture | None = _input(
        "`gpt2`; or `nanecho`, which transformers loads only with trust_remote_code=True.",
        _TRAINS,
        shown="the continued model's, else gpt2",
    )
    persona_dimensions: Annotated[DimensionNames, BeforeValidator(_split)] | None = _input(
        "Names of a new NanEcho's persona dimensions.", _TRAINS, shown="the eight of Echo Self"
    )
    n_layer: int | None = _input("Transformer blocks.", _TRAINS, shown="preset", ge=1)
    n_head: int | None = _input(
        "Attention heads; of a checkpoint, where its file does not say.", (*_TRAINS, "deploy", "pull"), shown="preset", ge=1
    )
    n_embd: int | None = _input("Width.", _TRAINS, shown="preset", ge=1)
    block_size: int | None = _input("Tokens that the model sees at once.", _TRAINS, shown="preset", ge=1)
    dropout: float | None = _input("Dropout rate.", _TRAINS, shown="preset", ge=0, lt=1)
    bias: bool | None = _input("Biases in linear layers and layer norms.", _TRAINS, shown="true")
    max_iters: int | None = _input("Additional steps of this run.", _TRAINS, shown="preset", ge=1)
    max_minutes: float | None = _input("Wall-clock budget of this run, 0 for none.", _TRAINS, shown="preset", ge=0)
    batch_size: int | None = _input("Sequences at once.", _TRAINS, shown="preset", ge=1)
    gradient_accumulation: int | None = _input("Batches a step.", _TRAINS, shown="preset", ge=1)
    learning_rate: float | None = _input("Peak learning rate.", _TRAINS, shown="preset", gt=0)
    total_iters: int | None = _input(
        "Steps over all runs that the learning rate falls over, as a cosine; without it the rate is constant, and falls at the "
        "end of every run, on a branch.",
        _TRAINS,
        shown="open-ended",
        ge=1,
    )
    decay: float = _input("Share of a run's steps that the rate falls over, without total_iters.", _TRAINS, 0.2, ge=0, lt=1)
    warmup: int | None = _input("Steps of linear warmup.", _TRAINS, shown="a twentieth of the run", ge=0)
    weight_decay: float = _input("Weight decay of matrices.", _TRAINS, 0.1, ge=0)
    grad_clip: float = _input("Largest gradient norm, 0 for no clipping.", _TRAINS, 1.0, ge=0)
    seed: int = _input("Seed of the weights, batches and dropout.", _TRAINS, 1337, ge=0)
    dtype: Dtype = _input("Precision of matrix products; auto: bfloat16 where it is fast.", _TRAINS, "auto")
    device: Device = _input("Where to train; auto: a GPU where there is one.", _TRAINS, "auto")
    processes: Annotated[int, BeforeValidator(lambda value: 0 if value == AUTO else value)] = _input(
        "Processes on this machine that share each batch; auto: one for each GPU.", _TRAINS, 1, ge=0
    )
    sharding: Sharding = _input(
        "Of several processes: none: each has the whole model; full: each has a part of it.", _TRAINS, "none"
    )
    resume: Literal["auto", "never", "must"] = _input(
        "auto: go on from output_dir, else from repo_id, else start fresh; must: fail rather than start fresh.",
        _TRAINS,
        "auto",
    )
    confirm_fresh_start: bool = _input("Needed with `resume: never`.", _TRAINS, False)
    eval_interval: int | None = _input("Steps between evaluations.", _TRAINS, shown="preset", ge=1)
    eval_tokens: int = _input("Held-out tokens that an evaluation reads, 0 for all.", _TRAINS, 65536, ge=0)
    checkpoint_interval: int | None = _input("Steps between checkpoints.", _TRAINS, shown="preset", ge=1)
    checkpoint_minutes: float = _input("Minutes between checkpoints, 0: by steps alone.", _TRAINS, 15, ge=0)
    log_interval: int | None = _input("Steps between logged losses.", _TRAINS, shown="preset", ge=1)
    keep_checkpoints: int = _input("Checkpoints that stay; the best and the latest always do.", _TRAINS, 3, ge=1)

    gate: str = _input(
        "What a model must reach to be published: `none`, or `max_val_loss=X`, in nats per token.",
        _HUB,
        "none",
        pattern=r"^(none|max_val_loss=[0-9]+(\.[0-9]+)?)$",
    )
    gate_fails_job: bool = _input("Whether a model that the gate refuses fails the job.", _HUB, True)
    upload_training_state: bool = _input("Keep exact continuation on the Hub, on branch training-state.", _HUB, True)
    tag: Text | None = _input("Tag for the published commit.", _HUB, pattern=f"^{_REVISION}$")
    private: bool = _input("Make the repo private when it is created.", _HUB, False)
    license: str | None = _input("License of the model, as the Hub names it.", _HUB, pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}$")
    language: Annotated[list[LanguageCode], BeforeValidator(_split)] | None = _input("Language codes for the card.", _HUB)
    dry_run: bool = _input("Print what would be published, upload nothing.", _HUB, False)

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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # one variable is read, not one an input
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(init_settings, InitSettingsSource)
        action = _action_inputs(os.environ)
        config = init_settings.init_kwargs.get("config") or action.get("config")
        layers = (init_settings.init_kwargs, action, _config_file(config))
        return tuple(InitSettingsSource(settings_cls, layer) for layer in layers)

    @model_validator(mode="wrap")
    @classmethod
    def _report_everything(cls, values: Any, handler: ModelWrapValidatorHandler["Inputs"]) -> "Inputs":
        """One round for the values, and one for the contradictions between those of them that are right."""
        try:
            inputs, problems = handler(values), []
        except ValidationError as error:
            problems = [_field_problem(detail) for detail in error.errors()]
            wrong = {name for name, _, _ in problems}
            inputs = handler({"mode": "train"} | {name: value for name, value in values.items() if name not in wrong})
            if "mode" in wrong or "mode" not in values:
                raise _WrongInputsError(problems) from error  # without a mode, nobody knows what the others contradict
        wrong = {name for name, _, _ in problems}
        problems += [problem for names, problem in _contradictions(inputs) if not wrong.intersection(names)]
        if problems:
            raise _WrongInputsError(problems)
        return inputs

    @property
    def token(self) -> str | None:
        """The token in plain text, for the client alone."""
        return self.hf_token.get_secret_value() if self.hf_token else None

    def size(self, name: str) -> Any:
        """An input of the preset's: the one given, else the preset's."""
        given = getattr(self, name)
        return getattr(PRESETS[self.preset], name) if given is None else given

    def training_settings(self) -> TrainingSettings:
        names = TrainingSettings.__dataclass_fields__
        preset = asdict(PRESETS[self.preset])
        return TrainingSettings(**{name: self.size(name) if name in preset else getattr(self, name) for name in names})


def _output(help: str) -> Any:
    return field(default="", metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Every mode gives every output; one that does not apply is empty."""

    checkpoint: str = _output("Path of the newest checkpoint.")
    model_dir: str = _output("Path of the model folder to use or deploy: the best checkpoint, or the one that was pulled.")
    step: str = _output("Optimizer steps behind the model in model_dir.")
    train_loss: str = _output("Training loss, nats per token.")
    val_loss: str = _output("Held-out loss of the model in model_dir, nats per token.")
    best_val_loss: str = _output("Lowest held-out loss so far.")
    tokens_per_second: str = _output("Training speed.")
    stopped_by: str = _output("max_iters, max_minutes or signal.")
    gate_result: str = _output("passed or refused, where there is a gate.")
    deployed: str = _output("true where a new commit was published, false where nothing had changed.")
    repo_url: str = _output("Page of the repo on the Hub.")
    commit_sha: str = _output("Commit on the Hub that holds the model.")
    revision: str = _output("Branch, tag or commit that the model was fetched from or published to.")
    tag: str = _output("Tag that was set on the Hub.")


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


def load_inputs(flags: Mapping[str, Any], unknown_flags: Sequence[str] = ()) -> Inputs:
    """The inputs from flags, the action's variable, the file and defaults.

    Raises InputError with one problem for everything that is wrong, each with its place and its fix.
    """
    given = _given(flags)
    # the value after an unknown flag may be a secret: it is not repeated
    unknown = [word.split("=")[0] for word in unknown_flags if word.startswith("-")]
    if unknown_flags and not unknown:
        unknown = ["A word without a flag"]
    problems = [InputError(f"{flag} is no flag of this mode.", _closest(flag)) for flag in unknown]
    problems += _too_late(given)
    try:
        inputs = Inputs(**given)
    except _WrongInputsError as wrong:
        problems += [_placed(problem, given) for problem in wrong.problems]
    if problems:
        count = "1 input is" if len(problems) == 1 else f"{len(problems)} inputs are"
        raise InputError(f"{count} wrong. Nothing was done.", problems=problems)
    return inputs


def _too_late(flags: Mapping[str, Any]) -> list[InputError]:
    """What the file says and nobody heeds: it is read when the container or the venv is running."""
    config = flags.get("config") or _action_inputs(os.environ).get("config")
    path = config or DEFAULT_CONFIG
    fix = "Give it as an input of the action, under `with:`."
    found = [name for name in LAUNCH_INPUTS if name in _config_file(config)]
    return [InputError(f"{name} in {path}: the file is read too late for it.", fix, file=path) for name in found]


def _placed(problem: tuple[str, str, str], flags: Mapping[str, Any]) -> InputError:
    """A problem, with where its value was given: a flag, an input of the action, or the file."""
    name, message, fix = problem
    action = _action_inputs(os.environ)
    config = flags.get("config") or action.get("config")
    if name in flags and name != "mode":
        return InputError(f"--{name.replace('_', '-')}: {message}", fix)
    if name in action:
        return InputError(f"input {name}: {message}", fix)
    if name in _config_file(config):
        path = config or DEFAULT_CONFIG
        return InputError(f"{name} in {path}: {message}", fix, file=path)
    return InputError(f"{name}: {message}", fix)


def _action_inputs(environment: Mapping[str, str]) -> dict[str, Any]:
    """The action's inputs: one JSON object in one environment variable, so that nothing is interpolated into a script."""
    text = environment.get(ACTION_VARIABLE)
    try:
        values = json.loads(text) if text else {}
    except ValueError as error:
        raise InputError(f"{ACTION_VARIABLE} is no JSON: {error}.", "The action passes toJSON(inputs) in it.") from error
    if not isinstance(values, dict):
        raise InputError(f"{ACTION_VARIABLE} is no JSON object.", "The action passes toJSON(inputs) in it.")
    return _given(values)


def _config_file(named: str | None) -> dict[str, Any]:
    """The inputs in the YAML file that `config` names, or in the default one where it is there."""
    path = Path(named or DEFAULT_CONFIG)
    if not named and not path.is_file():
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"config: {path} can't be read: {error.strerror}.", "Give the path of a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"config: {path} is no YAML: {error}.", "Mend the file.", file=str(path)) from error
    if not isinstance(values or {}, dict):
        raise InputError(
            f"config: {path} holds no mapping of inputs.", "Write `name: value`, one input a line.", file=str(path)
        )
    return _given(values or {})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was not given: a composite action passes an empty string for that."""
    return {str(name): value for name, value in values.items() if value not in ("", None)}


def _field_problem(detail: Any) -> tuple[str, str, str]:
    """One of pydantic's errors, in the words of someone who writes a workflow."""
    name, kind, context = str(detail["loc"][0]), detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return name, "there is no such input.", _closest(name)
    if name == "mode":
        message = "not given." if detail["input"] is None else f"{_shortened(repr(detail['input']))} is no mode."
        return name, message, f"Use {_either(MODES)}."
    declared = Inputs.model_fields[name]
    value = "the value" if name == "hf_token" else _shortened(repr(detail["input"]))
    if kind == "literal_error":
        return name, f"{value} is none of its values.", f"Use {context['expected']}."
    if kind == "string_pattern_mismatch":
        return name, f"{value} has not the form that is wanted.", _FORMS.get(name, f"It is: {declared.description}")
    return name, f"{value}: {detail['msg'][0].lower()}{detail['msg'][1:]}.", f"It is: {declared.description}"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


_SHOWN = 200  # characters of a wrong value: enough to find it by
_FORMS = {
    "persona_dimensions": "Write names of letters, digits and underscores.",
    "license": "Write it as the Hub does, such as mit or cc-by-4.0.",
    "language": "Write codes such as en or pt-BR.",
    "repo_id": "Write owner/name, such as my-org/my-model.",
    "tokenizer": "Use gpt2, bytes, bpe:<size> such as bpe:4096, or the path of a tokenizer.json or a meta.pkl.",
    "revision": "Write the name of a branch, a tag or a commit.",
    "tag": "Write a tag name such as v1.0.",
    "gate": "Use none, or max_val_loss=X such as max_val_loss=3.5.",
}


def _contradictions(inputs: Inputs) -> list[tuple[tuple[str, ...], tuple[str, str, str]]]:
    """What can't be meant together: (the inputs concerned, (the one to name, message, fix))."""
    found: list[tuple[tuple[str, ...], tuple[str, str, str]]] = []

    def add(concerned: tuple[str, ...], message: str, fix: str) -> None:
        found.append((concerned, (concerned[0], message, fix)))

    if inputs.mode in _TRAINS:
        width, heads, steps = inputs.size("n_embd"), inputs.size("n_head"), inputs.size("max_iters")
        if width % heads:
            near = max(heads, width // heads * heads)
            fix = f"Use a multiple of {heads}, such as {near}, or another n_head."
            add(("n_embd", "n_head"), f"{width} is not divisible by n_head, {heads}.", fix)
        if inputs.architecture == "nanecho" and width % 4:
            add(("n_embd", "architecture"), f"{width} is not divisible by 4.", "A NanEcho's hypergraph attention has 4 heads.")
        if inputs.persona_dimensions and inputs.architecture != "nanecho":
            add(("persona_dimensions", "architecture"), "only a new NanEcho has them.", "Add architecture: nanecho.")
        if inputs.warmup is not None and inputs.warmup >= steps:
            message = f"{inputs.warmup} steps are no less than max_iters, {steps}."
            add(("warmup", "max_iters"), message, "Lower it, or leave it out.")
        if inputs.processes and (batch := inputs.size("batch_size")) % inputs.processes:
            fix = f"Use a multiple of {inputs.processes}, and gradient_accumulation for the rest of a step."
            add(("batch_size", "processes"), f"{batch} is not divisible by processes, {inputs.processes}.", fix)
        if inputs.resume == "never" and not inputs.confirm_fresh_start:
            fix = "Add confirm_fresh_start: true to start over on purpose; old checkpoints are set aside, not deleted."
            add(("resume", "confirm_fresh_start"), "never would leave the trained model behind.", fix)
        if inputs.resume == "never" and inputs.checkpoint:
            add(("resume", "checkpoint"), "never, but checkpoint names one to go on from.", "Leave out one of the two.")
    if not inputs.repo_id and inputs.mode != "train" and not (inputs.mode == "pull" and inputs.checkpoint):
        add(("repo_id",), f"not given, and {inputs.mode} needs it.", _FORMS["repo_id"])
    return found


def _closest(name: str) -> str:
    plain = name.lstrip("-").replace("-", "_")
    if plain == "hf_token":
        return "A token in an argument list can be read by others on the machine: set HF_TOKEN in the environment."
    close = get_close_matches(plain, Inputs.model_fields, 1)
    return f"Did you mean {close[0]}?" if close else "See the table of inputs in the README."


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
