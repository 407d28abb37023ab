"""Runs the mode of a model, whose modules are imported only then."""

from importlib import import_module

from ..config.inputs import Inputs
from ..libraries import loading_code
from ..starting.corpus_files import require_files
from ..training.distributed.rank import is_worker


def start_mode(inputs: Inputs) -> int:
    """Run the mode; returns the exit code. Raises InputError at once if it would train, and `data` matches no file.

    A worker gets its batches from the main process, and its machine may have no corpus.
    """
    if not is_worker():
        require_files(inputs)
    with loading_code():
        mode = import_module(f"echoself_action.modes.{inputs.mode}")
    return int(mode.run(inputs))
