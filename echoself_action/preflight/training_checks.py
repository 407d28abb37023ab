"""The checks of a job that trains: the files of its corpus, the machine, and its time."""

from ..config.inputs import Inputs
from ..report.checks import PreflightCheck
from .corpus_facts import files_check
from .machine import machine_check


def training_checks(inputs: Inputs) -> list[PreflightCheck]:
    """Raises InputError if a pattern of `data` matches no file."""
    minutes, steps = inputs.size("max_minutes"), inputs.size("max_iters")
    limits = [f"{minutes:g} minutes (max_minutes)"] if minutes else []
    limits += [f"{steps:,} steps (max_iters)"] if steps else []
    return [files_check(inputs), machine_check(inputs), PreflightCheck("time", f"training ends after {' or '.join(limits)}")]
