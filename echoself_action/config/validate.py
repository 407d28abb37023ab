"""Problems of inputs, and how to fix them, in the terms of a workflow file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..checkpoint.architectures import ARCHITECTURES, DEFAULT
from ..formats.runtimes.runtime_formats import PUBLISHED
from ..hub.cards.template import template_problems
from ..hub.repo_id import MAX_REPO_ID, SCHEME, parse_source
from ..input_field import MODES, PUBLISHES, TRAINS
from ..training.curriculum import NO_LENGTH, NO_LENGTH_FIX, STEPS_FIX, without_steps
from ..training.phases import ERROR as PHASES_ERROR
from .input_types import REPO_ID_FORM
from .inputs import ACTION_INPUTS, AUTO, NO_FLAGS, Inputs, form_of, modes_of

_DROP_ONE = "Remove one of the two."
_SHOWN = 200  # characters of an invalid value
_NO_FLAG = {
    "mode": "Write the mode as a command: `echoself train`.",
    "hf_token": "Other users of the machine can read a token in an argument list: set HF_TOKEN in the environment.",
    "settings": "It is an input of the action. On the command line each setting is a flag of its own, such as --n-layer 6.",
    "phases": "It is a list of mappings: write it in the YAML file, .github/echoself.yml or that of --config.",
    "runtime": "It is an input of the action: a command runs where it is started.",
    "image": "It is an input of the action: a command runs where it is started.",
}
# Inputs of the EchoSelf and NanEcho workflows, in lowercase, and what replaces them.
_RENAMED = {
    "hfeself": "Use hf_token.",
    "hfmodel": "Use repo_id.",
    "hf_repo_id": "Use repo_id.",
    "training_type": "Use preset: ci, scheduled and full have the same names.",
    "force_fresh_start": "Use the settings `resume: never` and `confirm_fresh_start: true`.",
    "max_checkpoints": "Use the setting keep_checkpoints.",
    "max_cache_size_gb": "Use the setting keep_checkpoints: nothing limits the size of checkpoints in GB.",
    "download_from_hf": "Remove it: a run resumes from repo_id.",
    "source_workflow": "Remove it. Use output_dir for the folder of the artifact, or checkpoint: auto to search for one.",
    "deep_tree_echo_mode": "Remove it. The setting `architecture: nanecho` trains a NanEcho model.",
    "relentless_training": "Remove it: every run resumes the model.",
}


@dataclass(frozen=True)
class Problem:
    """`concerned` are the inputs that it is about, the one to name first."""

    concerned: tuple[str, ...]
    message: str
    fix: str


def field_problem(detail: Any, mode: object) -> Problem:
    """The problem behind one of pydantic's errors, in the inputs of `mode`."""
    name, kind, context = str(detail["loc"][0]), detail["type"], detail.get("ctx", {})
    if kind == "missing":
        # without candidates, compare reads the published model
        name, fix = ("repo_id", f"{REPO_ID_FORM} Or give candidates.") if name == "candidates" else (name, REPO_ID_FORM)
        return Problem((name,), f"missing, and {mode} requires it.", fix)
    if kind == "extra_forbidden":
        return Problem((name,), "there is no such input.", suggestion(name))
    if name == "mode":
        given = detail["input"]
        message = "missing." if given is None else f"{_shortened(repr(given))} is not a valid mode."
        close = get_close_matches(str(given), MODES, 1)
        return Problem((name,), message, f"Did you mean {close[0]}?" if close else f"Use {_either(MODES)}.")
    value = "the value" if name == "hf_token" else _shortened(repr(detail["input"]))
    if kind == PHASES_ERROR:
        return Problem((name,), context["message"], context["fix"])
    if kind == "literal_error":
        return Problem((name,), f"{value} is not an allowed value.", f"Use {context['expected']}.")
    if kind == "string_pattern_mismatch":
        return Problem((name,), f"{value} has an invalid format.", form_of(name))
    return Problem((name,), f"{value}: {detail['msg'][0].lower()}{detail['msg'][1:]}.", form_of(name))


def contradictions(inputs: Inputs) -> list[Problem]:
    """Inputs that are valid by themselves, but not together or not on this machine."""
    found: list[Problem] = []

    def add(concerned: tuple[str, ...], message: str, fix: str = _DROP_ONE) -> None:
        found.append(Problem(concerned, message, fix))

    if inputs.mode in TRAINS:
        width, heads, steps = inputs.size("n_embd"), inputs.size("n_head"), inputs.size("max_iters")
        # the other one may be that of a checkpoint or a pretrained model
        given = (inputs.n_embd, inputs.n_head)
        if width and heads and width % heads and (None not in given or not (inputs.init_from or inputs.checkpoint)):
            near = max(heads, width // heads * heads)
            fix = f"Use a multiple of {heads}, such as {near}, or another n_head."
            add(("n_embd", "n_head"), f"{width} is not divisible by n_head, {heads}.", fix)
        architecture = ARCHITECTURES[inputs.architecture or DEFAULT.name]
        if width and width % architecture.n_embd_multiple:
            message = f"{width} is not divisible by {architecture.n_embd_multiple}."
            add(("n_embd", "architecture"), message, architecture.n_embd_reason)
        for other in ARCHITECTURES.values():
            for name in other.own_inputs if other is not architecture else ():
                if getattr(inputs, name) is not None:
                    message = f"only a new {other.display_name} model has this input."
                    add((name, "architecture"), message, f"Add architecture: {other.name}.")
        if inputs.persona_dimensions and inputs.nanecho_paths is not None and "persona_dimensions" not in inputs.nanecho_paths:
            message = "it leaves out persona_dimensions, and the input persona_dimensions names some."
            add(
                ("nanecho_paths", "persona_dimensions"),
                message,
                "Add persona_dimensions to nanecho_paths, or remove the names.",
            )
        if inputs.activation not in (None, "gelu") and architecture is not DEFAULT:
            add(("activation", "architecture"), f"{architecture.display_name} computes the exact GELU, gelu.")
        if inputs.init_from and architecture is not DEFAULT:
            message = f"a pretrained {DEFAULT.display_name} can't start a {architecture.display_name} model."
            add(("init_from", "architecture"), message)
        if inputs.warmup is not None and steps is not None and inputs.warmup >= steps:
            message = f"{inputs.warmup} must be less than max_iters, {steps}."
            add(("warmup", "max_iters"), message, "Lower it, or remove it.")
        if inputs.processes and (batch := inputs.size("batch_size")) and batch % inputs.processes:
            fix = f"Use a multiple of {inputs.processes}, and gradient_accumulation for larger steps."
            add(("batch_size", "processes"), f"{batch} is not divisible by processes, {inputs.processes}.", fix)
        if inputs.phases:
            for problem in _phase_problems(inputs, steps):
                add(*problem)
        elif inputs.curriculum_iters:
            add(("curriculum_iters", "phases"), "there are no phases to divide these steps.", "Add phases, or remove it.")
        if steps is None and inputs.max_minutes == 0:
            add(("max_minutes", "max_iters"), "0 is no time limit, and preset: auto has no other.", "Set max_iters, or a time.")
        if inputs.resume == "never" and not inputs.confirm_fresh_start:
            fix = "Add confirm_fresh_start: true to start over on purpose. Existing checkpoints are moved aside, not deleted."
            add(("resume", "confirm_fresh_start"), "never would abandon the trained model.", fix)
        if inputs.resume == "never" and inputs.checkpoint:
            add(("resume", "checkpoint"), "never, but checkpoint names one to resume from.")
    if inputs.evaluate_gate != "none" and not inputs.question_sources:
        fix = "Add evaluate: the path of a file with questions, or held-out."
        add(("evaluate_gate", "evaluate"), f"{inputs.evaluate_gate} needs questions, and evaluate names none.", fix)
    if inputs.card and inputs.mode in PUBLISHES:
        for message, fix in template_problems(Path(inputs.card)):
            add(("card",), f"{inputs.card} {message}.", fix)
    for name in ("license_name", "license_link"):
        if getattr(inputs, name) and inputs.license != "other":
            add((name, "license"), "only license: other has this input.", f"Set license: other, or remove {name}.")
    if inputs.create_release and inputs.create_pr:
        add(("create_release", "create_pr"), "a release is of a published model, and create_pr does not publish one.")
    if inputs.create_pr and inputs.tag:
        add(("create_pr", "tag"), "a tag is set on a published commit, and create_pr does not publish one.")
    if inputs.create_pr and inputs.revision != "main":
        add(("create_pr", "revision"), f"a pull request always targets main, not {inputs.revision}.")
    local = [name for name in inputs.formats if name not in PUBLISHED]
    if local and inputs.mode in PUBLISHES:
        message = f"{_either(local, 'and')} can't be published: no program is here that could check it."
        fix = f"Use {_either(list(PUBLISHED), 'and')}. mode: pull writes {_either(local, 'and')} for the published model."
        add(("formats", "mode"), message, fix)
    if inputs.architecture and inputs.mode in TRAINS:
        for one in (PUBLISHED[name] for name in inputs.exported_formats if name in PUBLISHED):
            if inputs.architecture not in one.architectures:
                asked_by, fix = ("formats", f"Leave {one.name} out of formats.")
                if one.name not in inputs.formats:
                    asked_by, fix = ("demo", "Remove demo: its page runs the model as ONNX.")
                message = f"{one.display_name} can't compute {ARCHITECTURES[inputs.architecture].display_name} models."
                add((asked_by, "architecture"), f"{one.name}: {message}", fix)
    for source in inputs.data:
        if source.startswith(SCHEME) and parse_source(source) is None:
            fix = "Use hf://datasets/owner/name, or hf://datasets/owner/name@revision."
            add(("data",), f"{source} is not a valid dataset on the Hub.", fix)
    if inputs.upload_datasets and any(source.startswith(SCHEME) for source in inputs.data):
        add(("upload_datasets", "data"), "the documents come from a dataset that is already on the Hub.")
    if inputs.create_pr and inputs.upload_datasets:
        add(("upload_datasets", "create_pr"), "documents are published by a commit, and create_pr does not commit.")
    if inputs.upload_datasets and inputs.dataset_layout == "folder" and inputs.dataset_repo_id:
        message = "dataset_layout: folder publishes the documents to the model repo, not to a dataset repo."
        add(("dataset_repo_id", "dataset_layout"), message)
    if inputs.mode in PUBLISHES and len(inputs.dataset_repo or "") > MAX_REPO_ID:
        message = f"not given, and the default name is longer than {MAX_REPO_ID} characters."
        add(("dataset_repo_id",), message, REPO_ID_FORM)
    if inputs.mode in PUBLISHES and len(inputs.demo_repo or "") > MAX_REPO_ID:
        message = f"not given, and the default name is longer than {MAX_REPO_ID} characters."
        add(("demo_repo_id",), message, REPO_ID_FORM)
    if inputs.mode in PUBLISHES and inputs.sign not in ("off", AUTO) and not Path(inputs.sign).is_file():
        add(("sign",), f"{inputs.sign} is not a file.", "Use auto, off, or the path of a private key in PEM format.")
    if inputs.mode == "pull" and inputs.signer:
        if not inputs.signer.startswith("https://") and not Path(inputs.signer).is_file():
            fix = "Use the path of a public key, or https://github.com/OWNER/REPO/.github/workflows/FILE@REF."
            add(("signer",), f"{inputs.signer} is not a file.", fix)
        if inputs.verify == "off":
            add(("signer", "verify"), "requires verification, and verify is off.")
        if inputs.checkpoint:
            add(("signer", "checkpoint"), "only files from the Hub have a signature to verify.")
    if inputs.pull_requests and (inputs.candidates or inputs.promote != "never"):
        message = "pull requests are compared with the published model; candidates and promote do not apply."
        add(("pull_requests", "candidates", "promote"), message)
    if inputs.pull_requests and inputs.revision != "main":
        add(("pull_requests", "revision"), f"pull requests always target main, not {inputs.revision}.")
    return found


def _phase_problems(inputs: Inputs, steps: int | None) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """What is wrong with phases together with other inputs. `steps` is max_iters."""
    phases = inputs.phases or ()
    iters = inputs.curriculum_iters or inputs.total_iters or steps
    if iters is None:
        yield ("phases", "curriculum_iters"), NO_LENGTH, NO_LENGTH_FIX
    elif problem := without_steps(phases, iters):
        yield ("phases", "curriculum_iters"), f"{problem}.", STEPS_FIX
    grown = next((phase for phase in phases if phase.connections is not None), None)
    if grown and inputs.architecture == DEFAULT.name:
        message = f"phase {grown.name}: connections: only a NanEcho model has connections that grow."
        yield ("phases", "architecture"), message, "Remove connections, or set architecture: nanecho."


def suggestion(name: str) -> str:
    """Advice for `name`, which is not an input; or for a flag `--name`, which is not one of the mode."""
    plain = name.lstrip("-").replace("-", "_")
    as_written = as_flag if name.startswith("-") else str
    if name.startswith("-") and plain in NO_FLAGS:
        return _NO_FLAG[plain]
    if name in map(as_flag, Inputs.model_fields):
        return f"It is an input of {_either(modes_of(plain), 'and')}."
    if plain.lower() in _RENAMED:
        return _RENAMED[plain.lower()]
    close = get_close_matches(plain.lower(), Inputs.model_fields, 1)
    where = "" if name.startswith("-") or not close or close[0] in ACTION_INPUTS else " It is a setting."
    if close:
        return f"Did you mean {as_written(close[0])}?{where}"
    return "`echoself help MODE` lists all flags." if name.startswith("-") else "See docs/inputs.md and docs/settings.md."


def as_flag(name: str) -> str:
    """The flag of an input: `--n-layer` of n_layer."""
    return f"--{name.replace('_', '-')}"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


def _either(names: Sequence[str], conjunction: str = "or") -> str:
    return f" {conjunction} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
