"""doctor: whether a job of a mode could start, and what it would do. Nothing is trained; nothing is written or published."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..checkpoint.model_folder import ModelFolder, read_model_folder
from ..checkpoint.select import best
from ..config.inputs import AUTO, Inputs
from ..config.mode_inputs import CompareInputs, DeployInputs, ImportInputs, ReviewInputs, TrainInputs
from ..errors import EXIT_CODES, CheckpointError, EchoselfError, HubError, MissingLocalHubError
from ..formats.import_folder import is_own
from ..hub.access import TokenAccess, require_repo_access, require_write_access
from ..hub.client import open_hub
from ..hub.endpoint import Hub
from ..hub.oidc import RESOURCE
from ..hub.repo import look_up
from ..input_field import PUBLISHES, TRAINS
from ..installation import localhub_command
from ..preflight.corpus_facts import CorpusFacts, corpus_check, questions_check, read_corpus
from ..preflight.export_check import formats_check
from ..preflight.forecast import Published, Start, find_start, forecast, look_at, publish_check
from ..preflight.hub_state import repo_check, token_check
from ..preflight.machine import machine_check
from ..publishing.card import check_card
from ..publishing.dataset import check_dataset
from ..publishing.demo import check_demo, demo_plan
from ..report.checks import PreflightCheck, check_lines, checks_summary, problem, warning
from ..report.github_actions import on_actions, write_summary
from ..report.log import note
from ..starting.candidates import is_local, look_up_candidate
from ..starting.corpus_files import require_files
from ..starting.resolve_checkpoint import require_checkpoint
from ..workspace import LOCAL_HUB
from .deploy import check_before_work

_WIDTH = 100  # columns on a terminal


@dataclass
class _Findings:
    """The checks in the order of the job, and the exit code of the first problem: 0 if it would start."""

    checks: list[PreflightCheck]
    exit_code: int = 0
    knows_repo: bool = True

    def add(self, *checks: PreflightCheck) -> None:
        self.checks += checks
        self.exit_code = self.exit_code or next((check.exit_code for check in checks if check.exit_code), 0)

    def attempt(self, subject: str, work: Callable[[], PreflightCheck | None]) -> bool:
        """Add the check that `work` returns, or the error that it raises; returns whether it raised none."""
        try:
            if check := work():
                self.add(check)
        except EchoselfError as error:
            self.add(problem(subject, error))
            return False
        return True


def run(models: Mapping[str, Inputs]) -> int:
    """Check the job of each model; returns the exit code that the first job would end with that can't start."""
    codes = []
    for name, inputs in models.items():
        note(f"{f'{name}: ' if name else ''}would `{inputs.mode}` start? Nothing is trained, written or published.")
        note("")
        found = _examine(inputs)
        note(check_lines(found.checks, None if on_actions() else _WIDTH))
        code = f"{found.exit_code}: {EXIT_CODES.get(found.exit_code)}"
        end = f"would end with exit code {code}" if found.exit_code else "would start"
        note(f"\nThe job {end}.")
        write_summary(f"## `{inputs.mode}` {end}{f': {name}' if name else ''}\n\n{checks_summary(found.checks)}")
        codes.append(found.exit_code)
    return next((code for code in codes if code), 0)


def _examine(inputs: Inputs) -> _Findings:
    """Check what the job needs, in the order in which it needs it."""
    found = _Findings([])
    has_files = found.attempt("corpus", lambda: require_files(inputs))
    if isinstance(inputs, DeployInputs):
        found.attempt("inputs", lambda: check_before_work(inputs))
    if inputs.mode == "deploy" and found.attempt("model", lambda: _model_check(inputs)):
        found.add(*formats_check(inputs, folder=_folder_of(inputs)))
    if isinstance(inputs, ImportInputs):
        found.attempt("model", lambda: _import_check(inputs))
        return found
    if isinstance(inputs, CompareInputs):
        found.attempt("models", lambda: _candidates_check(inputs))
        found.attempt("corpus", lambda: _held_out_check(inputs))
        return found
    with ExitStack() as stack:
        published = _examine_hub(inputs, found, stack)
        if isinstance(inputs, TrainInputs):
            found.add(machine := machine_check(inputs))
            if has_files:
                _examine_training(inputs, found, published, machine.level != "problem")
    return found


def _examine_hub(inputs: Inputs, found: _Findings, stack: ExitStack) -> Published | None:
    """Check the token, the repo, and what would be published; returns what is, None if it is unknown."""
    if not inputs.repo_id:
        if inputs.mode in TRAINS:
            found.add(PreflightCheck("repo", "not used: repo_id is not set, so the model stays in output_dir"))
        return None
    folder = LOCAL_HUB if inputs.hub == "local" else Path(inputs.hub or "")
    if inputs.hub and "://" not in inputs.hub and not folder.is_dir():
        if not find_spec("localhub"):
            found.add(problem("hub", MissingLocalHubError(f"hub: {inputs.hub}", localhub_command())))
        if inputs.mode == "pull":
            error = HubError(f"There is no local Hub in {folder}, so {inputs.repo_id} can't be pulled.", "Check hub.")
            found.add(problem("repo", error))
            return None
        found.add(PreflightCheck("token", "not needed: the Hub is on this machine"))
        found.add(PreflightCheck("repo", f"{inputs.repo_id} will be created, in a new local Hub in {folder}"))
        if isinstance(inputs, DeployInputs):
            found.add(*demo_plan(inputs, "created"))
        return None
    hub: Hub | None = None
    access: TokenAccess | None = None

    def open_it() -> PreflightCheck | None:
        nonlocal hub, access
        hub = stack.enter_context(open_hub(inputs.hub, inputs.token, note))
        if not isinstance(inputs, DeployInputs | ReviewInputs) or inputs.dry_run:
            return None
        access = require_write_access(hub)
        return token_check(hub, access, inputs.token is not None)

    if not found.attempt("token", open_it):
        found.add(*_keyless_advice())
    found.knows_repo = hub is not None
    return _examine_repo(inputs, found, hub, access) if hub else None


def _examine_repo(inputs: Inputs, found: _Findings, hub: Hub, access: TokenAccess | None) -> Published | None:
    """Check the repo. Without write access it is looked at all the same."""
    assert inputs.repo_id
    published: Published | None = None

    def look() -> PreflightCheck:
        nonlocal published
        remote = look_up(hub, inputs.repo_id or "", inputs.revision)
        if inputs.mode == "pull" and not remote.holds_a_model:
            raise HubError(
                f"{inputs.repo_id} on {hub.endpoint} has no model at {inputs.revision}, or is not accessible.",
                "Check repo_id, revision, and which repos the token has access to.",
            )
        published = look_at(hub, remote)
        return repo_check(hub, remote, published.model, inputs.private)

    found.knows_repo = found.attempt("repo", look)
    if published is None or not isinstance(inputs, DeployInputs):
        return published
    remote = published.remote
    if access and not inputs.create_pr:
        found.attempt("access", lambda: require_repo_access(hub, remote, access))
    if access or inputs.dry_run:
        found.attempt("card", lambda: check_card(inputs, hub, remote))
        found.attempt("dataset", lambda: check_dataset(inputs, hub))
        found.attempt("demo", lambda: next(iter(check_demo(inputs, hub, remote, access)), None))
    if inputs.mode == "deploy":
        found.add(publish_check(inputs, published))
    return published


def _examine_training(inputs: TrainInputs, found: _Findings, published: Published | None, can_compute: bool) -> None:
    """Check the corpus, and what a run would do with it."""
    corpus: CorpusFacts | None = None
    start: Start | None = None

    def find() -> None:
        nonlocal start
        start = find_start(inputs, published)

    def read() -> PreflightCheck:
        nonlocal corpus
        corpus = read_corpus(inputs)
        return corpus_check(inputs, corpus, _bytes_per_token(inputs, start, corpus))

    found.attempt("plan", find)
    found.attempt("corpus", read)
    found.add(*questions_check(inputs))
    if start is None or corpus is None or not found.knows_repo or not can_compute:
        return
    found.add(*forecast(inputs, start, corpus, _bytes_per_token(inputs, start, corpus)))
    if inputs.mode in PUBLISHES:
        found.add(publish_check(inputs, published))


def _bytes_per_token(inputs: Inputs, start: Start | None, corpus: CorpusFacts) -> float:
    known = start.facts.bytes_per_token if start and start.facts else None
    return known or corpus.bytes_per_token(inputs.tokenizer)


def _model_check(inputs: Inputs) -> PreflightCheck:
    """The model that deploy would publish. Raises CheckpointError if there is none."""
    if inputs.checkpoint:
        require_checkpoint(inputs)
        what = "is searched when the job runs" if inputs.checkpoint == AUTO else "would be published"
        return PreflightCheck("model", f"{inputs.checkpoint} {what}")
    model = best(inputs.output_dir)
    if model is None:
        raise CheckpointError(
            f"There is no checkpoint in {inputs.output_dir}.", "Train first, or set checkpoint to the path of a model folder."
        )
    loss = f", {model.metadata.val_loss_text}" if model.metadata else ""
    return PreflightCheck("model", f"{model.path}: step {model.step:,}{loss}")


def _folder_of(inputs: Inputs) -> ModelFolder | None:
    """The model that deploy would publish; None if it is not a model folder yet."""
    if inputs.checkpoint:
        path = require_checkpoint(inputs)
        return read_model_folder(path) if path and path.is_dir() and is_own(path) else None
    return best(inputs.output_dir)


def _import_check(inputs: ImportInputs) -> PreflightCheck:
    """The checkpoint that pull would import. Raises CheckpointError."""
    path = require_checkpoint(inputs)
    return PreflightCheck("model", f"would import {path} into {inputs.output_dir}" if path else "would search for a checkpoint")


def _candidates_check(inputs: CompareInputs) -> PreflightCheck:
    """The models to compare. Raises InputError, CheckpointError or HubError for one that does not exist."""
    on_the_hub = [name for name in inputs.candidates if not is_local(name)]
    if on_the_hub:
        with open_hub(inputs.hub, inputs.token, note) as hub:
            for name in on_the_hub:
                if look_up_candidate(hub, name).model is None:
                    raise HubError(
                        f"candidates: {name} does not exist on {hub.endpoint}, or is not accessible.",
                        "Check its name, and which repos the token has access to.",
                    )
    shown = (f"{name} ({'on the Hub' if name in on_the_hub else 'here'})" for name in inputs.candidates)
    return PreflightCheck("models", f"would compare {', '.join(shown)}")


def _held_out_check(inputs: Inputs) -> PreflightCheck:
    """The corpus, whose held-out text a comparison may need. Raises InputError."""
    corpus = read_corpus(inputs)
    return corpus_check(inputs, corpus, corpus.bytes_per_token(inputs.tokenizer))


def _keyless_advice() -> Iterator[PreflightCheck]:
    """How a job that has an id token could use it."""
    if os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL") and not os.environ.get(RESOURCE):
        text = f"keyless access is possible: this job has an id token, and {RESOURCE} is not set"
        yield warning("token", text, f"Set {RESOURCE} to repo_id in the step's env, for a repo that trusts this workflow.")
