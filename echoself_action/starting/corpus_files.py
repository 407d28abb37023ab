"""The files of the corpus that the input `data` selects, in the working directory and on the Hub."""

from pathlib import Path

from ..checkpoint.model_folder import WEIGHTS_FILE
from ..config.inputs import Inputs
from ..corpus.findings import Finding, Report, shown_path
from ..corpus.globs import find_files
from ..corpus.source_weights import source_name
from ..errors import InputError
from ..evaluation.questions.question_file import read_questions
from ..hub.client import open_hub
from ..hub.dataset_repo import fetch_dataset
from ..hub.repo_id import SCHEME
from ..input_field import TRAINS
from ..report.log import note
from ..workspace import DATASET_CACHE
from .weighted_files import require_weighted_files

HELD_OUT = "held-out"  # as `evaluate`: the questions of the corpus that are held out


def require_files(inputs: Inputs) -> None:
    """Raises InputError if the mode trains, and a pattern of `data`, or a glob of phases, matches no file.

    Also if `evaluate` matches no file, or a file of questions is invalid. This comes before PyTorch or the Hub take seconds.
    """
    if inputs.mode in TRAINS:
        files = files_here(inputs)
        if not any(one.startswith(SCHEME) for one in inputs.data):
            require_weighted_files(inputs.phases or (), [source_name(path) for path in files])
    elif HELD_OUT in inputs.question_sources:
        files_here(inputs)
    if inputs.question_sources:
        read_questions(question_files(inputs))


def question_files(inputs: Inputs) -> list[Path]:
    """The files of questions that `evaluate` selects. Raises InputError if a pattern matches no file."""
    patterns = [one for one in inputs.question_sources if one != HELD_OUT]
    return find_files(patterns, Path.cwd()) if patterns else []


def files_here(inputs: Inputs, report: Report = lambda _: None) -> list[Path]:
    """The files that `data` selects in the working directory. `report` is called with links that are not followed.

    Raises InputError if a pattern matches no file.
    """
    patterns = [one for one in inputs.data if not one.startswith(SCHEME)]
    found = find_files([*patterns, f"!{inputs.output_dir}/**"], Path.cwd(), report) if patterns else []
    # model cards, tokenizers and the like are no text to learn
    files = [path for path in found if not (path.parent / WEIGHTS_FILE).exists()]
    if left_out := len(found) - len(files):
        first = next(path for path in found if path not in files)
        report(Finding("files of model folders left out", "", left_out, f"{first}, beside {WEIGHTS_FILE}", is_loss=False))
    questions = {path.resolve() for path in question_files(inputs)} if inputs.question_sources else set()
    if asked := [path for path in files if path.resolve() in questions]:
        example = f"{shown_path(asked[0])}, which evaluate names"
        report(Finding("files of questions left out of training", "", len(asked), example, is_loss=False))
        files = [path for path in files if path not in asked]
        if not files and len(patterns) == len(inputs.data):
            raise InputError(
                f"data selects only files that evaluate names, such as {shown_path(asked[0])}. Nothing was read.",
                "Add the text to train on to data.",
            )
    return files


def corpus_files(inputs: Inputs, report: Report = lambda _: None) -> list[Path]:
    """The files that `data` selects; datasets are fetched from the Hub. `report` is called with links that are not followed.

    Raises InputError if a pattern matches no file, HubError if a dataset can't be fetched.
    """
    files = files_here(inputs, report)
    if sources := [one for one in inputs.data if one.startswith(SCHEME)]:
        with open_hub(inputs.hub, inputs.token, note) as hub:
            files += [path for source in sources for path in fetch_dataset(hub, source, DATASET_CACHE)]
    return files
