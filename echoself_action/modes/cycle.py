"""cycle: pull, train and deploy in one job; the model gets better with every run."""

import time

from ..config.inputs import CycleInputs
from ..config.outputs import set_outputs
from ..errors import INTERRUPTED
from ..hub.client import open_hub, require_write_access
from ..hub.fetch import fetch
from ..hub.repo import look_up
from ..publishing.dataset import check_documents
from ..publishing.plan import write_report
from ..publishing.release import release_target
from ..publishing.signing import signer_for
from ..report.github_actions import write_summary
from ..report.job_summary import training_summary
from ..report.log import note, part
from ..starting.resume import starting_point_of_cycle
from .deploy import deploy_model, exit_code
from .multiprocess import run_in_processes
from .train import train_model, training_outputs


def run(inputs: CycleInputs) -> int:
    """The mode; returns the exit code. What was trained stays in output_dir where it can't be published."""
    return run_in_processes(inputs, _run)


def _run(inputs: CycleInputs) -> int:
    started = time.monotonic()
    release_target(inputs)
    signer_for(inputs)  # a key that is none ends the run here, before the work
    with open_hub(inputs.hub, inputs.token, note) as hub:
        require_write_access(hub)
        check_documents(inputs, hub)
        with part("Pulling"):
            remote = look_up(hub, inputs.repo_id, inputs.revision)
            wanted = remote.holds_a_model and inputs.resume != "never"
            fetched = fetch(hub, remote, inputs.output_dir, note).newest if wanted else None
            start = starting_point_of_cycle(inputs, fetched)
        trained = train_model(inputs, start, started)
        write_summary(training_summary(trained.result, trained.best, trained.sample))
        outputs = training_outputs(trained) | write_report(inputs, trained.best, trained.sample)
        if not trained.interrupted:
            outputs |= deploy_model(inputs, hub, remote, trained.best, trained.resumable, trained.sample)
    set_outputs(outputs)
    return INTERRUPTED if trained.interrupted else exit_code(inputs, outputs)
