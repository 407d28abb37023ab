"""Run the mode for several models, one after the other, and report all of them in one table."""

import json
from collections.abc import Mapping
from functools import partial

from ..config.inputs import Inputs
from ..config.outputs import set_outputs
from ..errors import INTERRUPTED
from ..exit_codes import exit_code_of_model
from ..report.github_actions import collect_outputs, replace_summary, summary_since, summary_size
from ..report.job_summary.models_summary import model_section, models_summary
from ..report.log import note
from .start_mode import start_mode


def run(models: Mapping[str, Inputs]) -> int:
    """Run every model, even if one before it failed; returns the first exit code that is not 0.

    An interrupt ends the run.
    """
    codes: dict[str, int] = {}
    outputs: dict[str, dict[str, str]] = {}
    all_start = summary_size()
    for name, inputs in models.items():
        note(f"\n=== {name}")
        start = summary_size()
        with collect_outputs() as outputs[name]:
            codes[name] = exit_code_of_model(inputs, partial(start_mode, inputs))
        replace_summary(start, model_section(name, codes[name], outputs[name], summary_since(start)))
        if codes[name] == INTERRUPTED:
            break
    sections = summary_since(all_start)
    replace_summary(all_start, f"{models_summary(models, codes, outputs).markdown()}\n{sections}")
    for name in models:
        note(f"{name}: {f'exit code {codes[name]}' if name in codes else 'not run'}")
    given = {name: {key: value for key, value in values.items() if value} for name, values in outputs.items()}
    set_outputs({"models": json.dumps(given)})
    return next((code for code in codes.values() if code), 0)
