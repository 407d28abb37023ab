"""Run the mode for several models, one after the other, and report all of them in one table."""

import json
from collections.abc import Mapping
from functools import partial

from ..config.inputs import Inputs
from ..config.outputs import set_outputs
from ..errors import INTERRUPTED
from ..exit_codes import exit_code_of_model
from ..report.github_actions import collect_outputs, write_summary
from ..report.job_summary import models_summary
from ..report.log import note
from .start_mode import start_mode


def run(models: Mapping[str, Inputs]) -> int:
    """Run every model, even if one before it failed; returns the first exit code that is not 0.

    An interrupt ends the run.
    """
    codes: dict[str, int] = {}
    outputs: dict[str, dict[str, str]] = {}
    for name, inputs in models.items():
        note(f"\n=== {name}")
        write_summary(f"# {name}\n")
        with collect_outputs() as outputs[name]:
            codes[name] = exit_code_of_model(inputs, partial(start_mode, inputs))
        if codes[name] == INTERRUPTED:
            break
    write_summary(models_summary(models, codes, outputs))
    for name in models:
        note(f"{name}: {f'exit code {codes[name]}' if name in codes else 'not run'}")
    given = {name: {key: value for key, value in values.items() if value} for name, values in outputs.items()}
    set_outputs({"models": json.dumps(given)})
    return next((code for code in codes.values() if code), 0)
