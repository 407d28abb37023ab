"""The files of the corpus that the input `data` selects, in the working directory and on the Hub."""

from pathlib import Path

from ..checkpoint.model_folder import WEIGHTS_FILE
from ..config.inputs import Inputs
from ..corpus.findings import Finding, Report
from ..corpus.globs import find_files
from ..hub.client import open_hub
from ..hub.dataset_repo import fetch_dataset
from ..hub.repo_id import SCHEME
from ..input_field import TRAINS
from ..report.log import note
from ..workspace import DATASET_CACHE


def require_files(inputs: Inputs) -> None:
    """Raises InputError if the mode trains, and a pattern of `data` matches no file: before PyTorch or the Hub take seconds."""
    if inputs.mode in TRAINS:
        files_here(inputs)


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
