"""mode: compare with pull_requests: compares pull requests on the Hub with the published model, and comments on them.

The files of a pull request are untrusted. They are downloaded to a separate folder and checked in a worker process without a
token. No code in them is run, and a crash of the worker refuses that pull request only.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..checkpoint.model_folder import HELD_OUT_FILE, ModelFolder, sha256
from ..config.mode_inputs import ReviewInputs
from ..config.outputs import set_outputs
from ..errors import GATE_REFUSED, CheckpointError, EchoselfError, HubError, InputError
from ..evaluation.held_out import write_held_out
from ..evaluation.loss import HeldOut
from ..formats.runtimes.export_libraries import require_libraries
from ..hub.access import require_write_access
from ..hub.client import open_hub
from ..hub.endpoint import Hub
from ..hub.fetch import fetch
from ..hub.repo import Listing, Remote, look_up
from ..report.github_actions import write_summary
from ..report.log import note, part, warn
from ..starting.tokenize_corpus import corpus_tokens
from .comment import (
    CHECKS,
    FILES,
    Baseline,
    Check,
    Review,
    ReviewComment,
    account_name,
    find_review_comment,
    post_review_comment,
    reviews_summary,
)
from .fetch_pull_request import PullRequest, fetch_files, inspect_changes, list_head, open_pull_requests, read_discussion
from .proposed_exports import EXPORTS_SUFFIX, formats_of

if TYPE_CHECKING:
    from huggingface_hub import DiscussionWithDetails

OPEN = "open"
_TIMEOUT_MINUTES = 30  # for one pull request
# what Python and PyTorch need, and no token
_ENVIRONMENT = ("PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "SYSTEMROOT")


@dataclass(frozen=True)
class _Reference:
    """The model on main in `folder`, with the held-out text beside it."""

    remote: Remote
    folder: ModelFolder
    baseline: Baseline


@dataclass(frozen=True)
class _Pending:
    """A pull request to check at the commit `head`, with our comment from an earlier run."""

    discussion: "DiscussionWithDetails"
    head: Listing
    comment: ReviewComment | None


def review_pull_requests(inputs: ReviewInputs) -> int:
    """Review the selected pull requests; returns the exit code. One that can't be checked does not stop the others."""
    reviews: list[Review] = []
    errors: list[EchoselfError] = []
    with open_hub(inputs.hub, inputs.token, note) as hub, TemporaryDirectory() as scratch:
        require_write_access(hub)
        pending = _pending(inputs, hub, reviews, errors)
        reference = _reference(inputs, hub, Path(scratch) / "published") if pending else None
        for item in pending:
            assert reference
            number = item.discussion.num
            try:
                with part(f"Pull request {number}"):
                    reviews.append(_review(inputs, hub, reference, item, Path(scratch) / str(number)))
            except HubError as error:
                _report_error(number, error, errors)
        url = hub.url(inputs.repo_id)
    reviews.sort(key=lambda review: review.number)
    write_summary(reviews_summary(url, reviews, [str(error) for error in errors]))
    outputs = {"repo_url": url, "pull_requests": json.dumps({str(review.number): review.result for review in reviews})}
    new = [review.result for review in reviews if review.is_new]
    if new:
        outputs["gate_result"] = "refused" if "refused" in new else "passed"
    if inputs.pull_requests != OPEN:
        outputs["pr_url"] = next((review.url for review in reviews), "")
    set_outputs(outputs)
    if errors:
        return errors[0].exit_code
    return GATE_REFUSED if "refused" in new and inputs.gate_fails_job else 0


def _pending(inputs: ReviewInputs, hub: Hub, reviews: list[Review], errors: list[EchoselfError]) -> list[_Pending]:
    """The pull requests to check now. One given by number is always checked, because main may have changed since."""
    repo_id, selected = inputs.repo_id, inputs.pull_requests
    account = account_name(hub)
    pending = []
    for number in open_pull_requests(hub, repo_id) if selected == OPEN else [int(selected)]:
        try:
            discussion, head = read_discussion(hub, repo_id, number), list_head(hub, repo_id, number)
        except EchoselfError as error:  # such as one that was closed in the meantime
            _report_error(number, error, errors)
            continue
        comment = find_review_comment(discussion, account)
        if selected == OPEN and comment and comment.commit == head.commit:
            note(f"pull request {number} is unchanged since the last check: {comment.result}")
            reviews.append(Review(number, discussion.url, comment.result == "passed", ()))
        else:
            pending.append(_Pending(discussion, head, comment))
    return pending


def _report_error(number: int, error: EchoselfError, errors: list[EchoselfError]) -> None:
    warn(f"Pull request {number} could not be checked: {error}")
    errors.append(error)


def _review(inputs: ReviewInputs, hub: Hub, reference: _Reference, item: _Pending, folder: Path) -> Review:
    """Check one pull request, and comment the result on the Hub."""
    pull_request = inspect_changes(hub, reference.remote, item.discussion, item.head)
    checks = _run_checks(inputs, hub, reference, pull_request, folder)
    passed = all(check.passed for check in checks) and [check.name for check in checks] == [FILES, *CHECKS]
    for check in checks:
        note(f"{check.name}: {'' if check.passed else 'no: '}{check.found}")
    review = Review(pull_request.number, pull_request.url, passed, checks)
    post_review_comment(hub, reference.remote.repo_id, pull_request, review, reference.baseline, item.comment)
    return review


def _reference(inputs: ReviewInputs, hub: Hub, folder: Path) -> _Reference:
    """Raises CheckpointError if main has no model, InputError if `data` has no held-out text."""
    remote = replace(look_up(hub, inputs.repo_id, inputs.revision), state=None)  # only the model is read
    if remote.model is None or not remote.model.has_model:
        raise CheckpointError(
            f"pull_requests: main of {inputs.repo_id} on {hub.endpoint} has no model to compare with. Nothing was checked.",
            "Publish a model first, or merge a pull request by hand.",
        )
    with part("Fetching the published model"):
        model = fetch(hub, remote, folder, note).model
        tokens = corpus_tokens(inputs.model_copy(update={"tokenizer": None}), model)
        windows = HeldOut(tokens.val, model.config.block_size, inputs.eval_tokens).windows()
        write_held_out(model.path, windows)
    known = model.metadata.data.digest if model.metadata and model.metadata.data else None
    baseline = Baseline(
        gate=inputs.gate,
        commit=remote.model.commit,
        windows=len(windows),
        data=inputs.data,
        digest=sha256(model.path / HELD_OUT_FILE),
        is_trained_on=known == tokens.digest,
    )
    return _Reference(remote, model, baseline)


def _run_checks(
    inputs: ReviewInputs, hub: Hub, reference: _Reference, pull_request: PullRequest, folder: Path
) -> Sequence[Check]:
    """The checks, up to the first that failed."""
    problems = pull_request.problems
    if not problems and (problem := fetch_files(hub, reference.remote.repo_id, pull_request, folder)):
        problems = (problem,)
    if not problems and pull_request.exports:
        try:
            require_libraries([one.name for one in formats_of(pull_request.exports)], note)
        except InputError as error:
            problems = (f"{', '.join(pull_request.exports)} can't be checked here: {error.message}",)
        folder.with_suffix(EXPORTS_SUFFIX).write_text(
            json.dumps([asdict(file) for file in pull_request.exports.values()]), encoding="utf-8"
        )
    if problems:
        return [Check(FILES, False, "; ".join(problems))]
    found = f"{len(pull_request.changed)} changed, {len(pull_request.removed)} deleted; no code, no pickle"
    return [Check(FILES, True, found), *_run_worker(inputs, reference, folder)]


def _run_worker(inputs: ReviewInputs, reference: _Reference, folder: Path) -> list[Check]:
    """Check the files in a separate process, so that a file that crashes its reader does not end the run."""
    answer = folder.with_suffix(".json")
    command = [sys.executable, "-P", "-m", "echoself_action.reviewing.worker", folder, reference.folder.path, inputs.gate]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder.with_suffix(".home"))}
    try:
        process = subprocess.run(
            [*map(str, command), reference.baseline.commit, str(answer)],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_MINUTES * 60,
            check=False,
        )
        stderr, failure = process.stderr, f"exited with code {process.returncode}" if process.returncode else ""
    except subprocess.TimeoutExpired:
        stderr, failure = "", f"took more than {_TIMEOUT_MINUTES} minutes"
    checks = [Check(**check) for check in json.loads(answer.read_text("utf-8"))] if answer.exists() else []
    if failure:
        note(stderr[-4000:])
        checks.append(Check(CHECKS[min(len(checks), len(CHECKS) - 1)], False, f"the worker process {failure}"))
    return checks
