"""cycle: pull, train and deploy in one job, so that the published model improves with every run."""

import time
from dataclasses import replace
from pathlib import Path

from ..checkpoint.model_folder import ModelFolder
from ..config.mode_inputs import CycleInputs
from ..config.outputs import set_outputs
from ..errors import INTERRUPTED
from ..hub.access import require_repo_access, require_write_access
from ..hub.client import open_hub
from ..hub.fetch import fetch
from ..hub.repo import look_up
from ..preflight.export_check import formats_check
from ..preflight.hub_state import hub_checks
from ..publishing.card import check_card
from ..publishing.dataset import check_dataset
from ..publishing.demo import check_demo
from ..publishing.publication import Publication
from ..report.checks import checks_summary, show_checks
from ..report.github_actions import model_outputs, replace_summary, summary_size
from ..report.job_summary.run_summary import run_summary
from ..report.log import note, part
from ..starting.resume import starting_point_of_cycle
from .deploy import check_before_work, deploy, exit_code
from .multiprocess import run_in_processes
from .train import report_training, train_model, training_checks


def run(inputs: CycleInputs) -> int:
    """Run the mode; returns the exit code. If the model can't be published, it stays in output_dir."""
    return run_in_processes(inputs, _run)


def _run(inputs: CycleInputs) -> int:
    started = time.monotonic()
    check_before_work(inputs)
    with open_hub(inputs.hub, inputs.token, note) as hub:
        access = require_write_access(hub)
        remote = look_up(hub, inputs.repo_id, inputs.revision)
        if not inputs.create_pr:
            require_repo_access(hub, remote, access)
        checks = [*hub_checks(inputs, hub, remote, access), *training_checks(inputs)]
        checks += [*formats_check(inputs), *check_demo(inputs, hub, remote, access)]
        show_checks(checks)
        check_card(inputs, hub, remote)
        check_dataset(inputs, hub)
        with part("Pulling"):

            def fetch_newest() -> ModelFolder | None:
                if not remote.holds_a_model:
                    return None
                return fetch(hub, remote, inputs.output_dir, note, tokenizer=inputs.tokenizer).newest

            start = starting_point_of_cycle(inputs, fetch_newest)
        trained = train_model(inputs, start, started)
        summary_start = summary_size()
        outputs = report_training(inputs, trained, will_publish=True)  # which stays, if the model can't be published
        if trained.interrupted:
            set_outputs(outputs)
            return INTERRUPTED
        done = deploy(
            Publication(
                inputs,
                hub,
                remote,
                trained.best,
                trained.resumable,
                ending=trained.ending,
                reason=trained.reason,
                latest=trained.result.latest if trained.result else None,
                roll_back=trained.roll_back,
                questions=trained.questions,
            )
        )
    outcome = replace(
        trained.outcome,
        result=done.result,
        model=done.model,
        resumable=done.resumable,
        reason=done.reason,
        sample=done.sample,
        publishing=done.outcome,
        will_publish=False,
        report=done.report or Path(outputs["report"]),
    )
    replace_summary(summary_start, f"{run_summary(outcome).markdown()}\n{checks_summary(checks)}")
    newest = str(done.resumable.path) if done.ending == "rolled_back" else outputs["checkpoint"]
    set_outputs(outputs | model_outputs(done.model) | {"checkpoint": newest} | done.outputs)
    return exit_code(done)
