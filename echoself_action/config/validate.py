"""What is wrong with inputs, in the words of someone who writes a workflow."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..checkpoint.architectures import ARCHITECTURES, DEFAULT
from ..hub.cards.sections import SECTIONS, wrong_marks
from ..hub.repo_id import MAX_REPO_ID, SCHEME, parse_source
from .inputs import AUTO, MODES, PUBLISHES, TRAINS, Inputs


@dataclass(frozen=True)
class Problem:
    """`concerned` are the inputs that it is about, the one to name first."""

    concerned: tuple[str, ...]
    message: str
    fix: str


def field_problem(detail: Any) -> Problem:
    """One of pydantic's errors."""
    name, message, fix = _field_problem(detail)
    return Problem((name,), message, fix)


def contradictions(inputs: Inputs) -> list[Problem]:
    """What can't be meant together."""
    found: list[Problem] = []

    def add(concerned: tuple[str, ...], message: str, fix: str) -> None:
        found.append(Problem(concerned, message, fix))

    if inputs.mode in TRAINS:
        width, heads, steps = inputs.size("n_embd"), inputs.size("n_head"), inputs.size("max_iters")
        if width % heads:
            near = max(heads, width // heads * heads)
            fix = f"Use a multiple of {heads}, such as {near}, or another n_head."
            add(("n_embd", "n_head"), f"{width} is not divisible by n_head, {heads}.", fix)
        architecture = ARCHITECTURES[inputs.architecture or DEFAULT.name]
        if width % architecture.n_embd_multiple:
            message = f"{width} is not divisible by {architecture.n_embd_multiple}."
            add(("n_embd", "architecture"), message, architecture.n_embd_reason)
        for other in ARCHITECTURES.values():
            for name in other.own_inputs if other is not architecture else ():
                if getattr(inputs, name) is not None:
                    message = f"only a new {other.display_name} has them."
                    add((name, "architecture"), message, f"Add architecture: {other.name}.")
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
    if inputs.card and inputs.mode in PUBLISHES:
        if not Path(inputs.card).is_file():
            add(("card",), f"{inputs.card} is no file.", "Give the path of a Markdown file.")
        elif wrong := wrong_marks(Path(inputs.card).read_text(encoding="utf-8", errors="replace")):
            message = f"{inputs.card} has marks that open or close none of our parts: {', '.join(wrong)}."
            add(("card",), message, f"Use the parts {', '.join(SECTIONS)}, each once, with both of its marks.")
    if inputs.create_release and inputs.create_pr:
        add(("create_release", "create_pr"), "only a published model gets one, and create_pr publishes none.", "Drop one.")
    if inputs.create_pr and inputs.tag:
        add(("create_pr", "tag"), "a tag is for a published commit, and create_pr publishes none.", "Drop one of the two.")
    if inputs.create_pr and inputs.revision != "main":
        add(("create_pr", "revision"), f"a pull request is for main, not for {inputs.revision}.", "Drop one of the two.")
    for source in inputs.data:
        if source.startswith(SCHEME) and parse_source(source) is None:
            add(
                ("data",),
                f"{source} names no dataset.",
                "Write hf://datasets/owner/name, or hf://datasets/owner/name@revision.",
            )
    if inputs.upload_datasets and any(source.startswith(SCHEME) for source in inputs.data):
        message = "the documents come from a dataset on the Hub, where they are already."
        add(("upload_datasets", "data"), message, "Drop one of the two.")
    if inputs.create_pr and inputs.upload_datasets:
        message = "it publishes the documents by a commit, and create_pr makes none."
        add(("upload_datasets", "create_pr"), message, "Drop one of the two.")
    if inputs.upload_datasets and inputs.dataset_layout == "folder" and inputs.dataset_repo_id:
        message = "layout folder keeps the documents in the model repo, and this names another."
        add(("dataset_repo_id", "dataset_layout"), message, "Drop one of the two.")
    if inputs.mode in PUBLISHES and len(inputs.dataset_repo or "") > MAX_REPO_ID:
        message = f"not given, and the name that it would have is longer than {MAX_REPO_ID} characters."
        add(("dataset_repo_id",), message, _REPO_ID)
    if inputs.mode in PUBLISHES and inputs.sign not in ("off", AUTO) and not Path(inputs.sign).is_file():
        add(("sign",), f"{inputs.sign} is no file.", "Use auto, off, or the path of a private key as PEM.")
    if inputs.mode == "pull" and inputs.signer:
        if not inputs.signer.startswith("https://") and not Path(inputs.signer).is_file():
            fix = "Give the path of a public key, or https://github.com/OWNER/REPO/.github/workflows/FILE@REF."
            add(("signer",), f"{inputs.signer} is no file.", fix)
        if inputs.verify == "off":
            add(("signer", "verify"), "off takes the files as they are.", "Leave out one of the two.")
        if inputs.checkpoint:
            add(("signer", "checkpoint"), "a signature is checked of what comes from the Hub.", "Leave out one of the two.")
    if inputs.pull_requests and (inputs.candidates or inputs.promote != "never"):
        message = "they are held to what is published, and candidates and promote are for a comparison."
        add(("pull_requests", "candidates", "promote"), message, "Drop one of the two.")
    if inputs.pull_requests and inputs.revision != "main":
        add(("pull_requests", "revision"), f"they are for main, not for {inputs.revision}.", "Drop one of the two.")
    spared = inputs.mode == "train" or (inputs.mode == "pull" and inputs.checkpoint) or inputs.candidates
    if not inputs.repo_id and not spared:
        add(("repo_id",), f"not given, and {inputs.mode} needs it.", _REPO_ID)
    return found


def closest(name: str) -> str:
    """Advice for whoever wrote `name`, which is no input."""
    plain = name.lstrip("-").replace("-", "_")
    if plain == "hf_token":
        return "A token in an argument list can be read by others on the machine: set HF_TOKEN in the environment."
    close = get_close_matches(plain, Inputs.model_fields, 1)
    return f"Did you mean {close[0]}?" if close else "See the table of inputs in the README."


def _field_problem(detail: Any) -> tuple[str, str, str]:
    """(input, message, fix)"""
    name, kind, context = str(detail["loc"][0]), detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return name, "there is no such input.", closest(name)
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
_REPO_ID = "Write owner/name, such as my-org/my-model."
_REPO_NAMES = (
    f"The Hub takes no name with -- or .. in it, with - or . at an end, with .git at its end, or over {MAX_REPO_ID} characters."
)
_FORMS = {
    "persona_dimensions": "Write names of letters, digits and underscores.",
    "license": "Write it as the Hub does, such as mit or cc-by-4.0.",
    "language": "Write codes such as en or pt-BR.",
    "repo_id": f"{_REPO_ID} {_REPO_NAMES}",
    "tokenizer": "Use gpt2, bytes, bpe:<size> such as bpe:4096, or the path of a tokenizer.json or a meta.pkl.",
    "dataset_repo_id": f"Write owner/name, such as my-org/my-corpus. {_REPO_NAMES}",
    "revision": "Write the name of a branch, a tag or a commit.",
    "pull_requests": "Write open, or the number of a pull request.",
    "tag": "Write a tag name such as v1.0.",
    "model": "Write one of the names under models in the file.",
    "gate": "Use improved, not_worse=X such as not_worse=0.01, max_val_loss=X such as max_val_loss=3.5, or none.",
}


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
