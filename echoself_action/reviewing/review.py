"""compare, with pull_requests: what others propose on the Hub, each held to what is published, with a comment that says so.

A pull request's files are data from a stranger. They are fetched into a folder of their own and read in a process of its own,
which has no token; nothing in them is run, and what goes wrong there is that pull request's verdict and nobody else's.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..checkpoint.model_folder import ModelFolder, sha256
from ..config.inputs import ReviewInputs
from ..config.outputs import set_outputs
from ..errors import GATE_REFUSED, CheckpointError, EchoselfError, HubError
from ..evaluation.held_out import HELD_OUT_FILE, write_held_out
from ..evaluation.loss import HeldOut
from ..hub.client import open_hub, require_write_access
from ..hub.endpoint import Hub
from ..hub.fetch import fetch
from ..hub.repo import Listing, Remote, look_up
from ..report.github_actions import write_summary
from ..report.log import note, part, warn
from ..starting.tokenize_corpus import corpus_tokens
from .comment import CHECKS, FILES, Check, HeldTo, Judged, comment, incoming_summary
from .fetch_pull_request import (
    Incoming,
    Said,
    fetch_incoming,
    head_of,
    look_at,
    open_pull_requests,
    read_discussion,
    said_before,
    say,
    who_am_i,
)

if TYPE_CHECKING:
    from huggingface_hub import DiscussionWithDetails

OPEN = "open"
_MINUTES = 30  # for one pull request
# what Python and PyTorch need; no token is among it
_ENVIRONMENT = ("PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "SYSTEMROOT")


@dataclass(frozen=True)
class _Published:
    """What pull requests are held to: main's model in a folder, with the held-out text beside it."""

    remote: Remote
    folder: ModelFolder
    held_to: HeldTo


@dataclass(frozen=True)
class _Waiting:
    """A pull request at a commit, with our comment on it from before."""

    discussion: "DiscussionWithDetails"
    head: Listing
    before: Said | None


def check_pull_requests(inputs: ReviewInputs) -> int:
    """Check those that are asked for; returns the exit code. One that can't be checked does not stop the others."""
    judged: list[Judged] = []
    failed: list[EchoselfError] = []
    with open_hub(inputs.hub, inputs.token, note) as hub, TemporaryDirectory() as scratch:
        require_write_access(hub)
        waiting = _waiting(inputs, hub, judged, failed)
        published = _published(inputs, hub, Path(scratch) / "published") if waiting else None
        for one in waiting:
            assert published
            try:
                with part(f"Pull request {one.discussion.num}"):
                    judged.append(_judge(inputs, hub, published, one, Path(scratch) / str(one.discussion.num)))
            except HubError as error:
                _fail(one.discussion.num, error, failed)
        url = hub.url(inputs.repo_id)
    judged.sort(key=lambda each: each.number)
    write_summary(incoming_summary(url, judged, [str(error) for error in failed]))
    outputs = {"repo_url": url, "pull_requests": json.dumps({str(each.number): each.result for each in judged})}
    new = [each.result for each in judged if each.is_new]
    if new:
        outputs["gate_result"] = "refused" if "refused" in new else "passed"
    if inputs.pull_requests != OPEN:
        outputs["pr_url"] = next((each.url for each in judged), "")
    set_outputs(outputs)
    if failed:
        return failed[0].exit_code
    return GATE_REFUSED if "refused" in new and inputs.gate_fails_job else 0


def _waiting(inputs: ReviewInputs, hub: Hub, judged: list[Judged], failed: list[EchoselfError]) -> list[_Waiting]:
    """Those that are to be checked now. One that is named is, also where it is as it was: main may have moved on."""
    repo_id, wanted = inputs.repo_id, inputs.pull_requests
    me = who_am_i(hub)
    waiting = []
    for number in open_pull_requests(hub, repo_id) if wanted == OPEN else [int(wanted)]:
        try:
            discussion, head = read_discussion(hub, repo_id, number), head_of(hub, repo_id, number)
        except EchoselfError as error:  # such as one that was closed meanwhile
            _fail(number, error, failed)
            continue
        before = said_before(discussion, me)
        if wanted == OPEN and before and before.commit == head.commit:
            note(f"pull request {number} is as it was when it was checked: {before.result}")
            judged.append(Judged(number, discussion.url, before.result == "passed", ()))
        else:
            waiting.append(_Waiting(discussion, head, before))
    return waiting


def _fail(number: int, error: EchoselfError, failed: list[EchoselfError]) -> None:
    warn(f"Pull request {number} could not be checked: {error}")
    failed.append(error)


def _judge(inputs: ReviewInputs, hub: Hub, published: _Published, one: _Waiting, folder: Path) -> Judged:
    """Check one, and say on the Hub what was found."""
    incoming = look_at(hub, published.remote, one.discussion, one.head)
    checks = _checked(inputs, hub, published, incoming, folder)
    passed = all(check.passed for check in checks) and [check.name for check in checks] == [FILES, *CHECKS]
    for check in checks:
        note(f"{check.name}: {'' if check.passed else 'no: '}{check.found}")
    judged = Judged(incoming.number, incoming.url, passed, checks)
    text = comment(incoming, judged, published.held_to)
    say(hub, published.remote.repo_id, incoming, judged.result, text, one.before)
    return judged


def _published(inputs: ReviewInputs, hub: Hub, folder: Path) -> _Published:
    """Raises CheckpointError where main has no model, InputError where `data` holds out no text."""
    remote = replace(look_up(hub, inputs.repo_id, inputs.revision), state=None)  # only the model is read
    if remote.model is None or not remote.model.has_model:
        raise CheckpointError(
            f"pull_requests: {inputs.repo_id} on {hub.endpoint} holds no model on main to hold them to. Nothing was checked.",
            "Publish a model first, or merge one by hand.",
        )
    with part("Fetching what is published"):
        model = fetch(hub, remote, folder, note).model
        tokens = corpus_tokens(inputs.model_copy(update={"tokenizer": None}), model)
        windows = HeldOut(tokens.val, model.config.block_size, inputs.eval_tokens).windows()
        write_held_out(model.path, windows)
    known = model.metadata.data.digest if model.metadata and model.metadata.data else None
    held_to = HeldTo(
        inputs.gate, remote.model.commit, len(windows), inputs.data, sha256(model.path / HELD_OUT_FILE), known == tokens.digest
    )
    return _Published(remote, model, held_to)


def _checked(inputs: ReviewInputs, hub: Hub, published: _Published, incoming: Incoming, folder: Path) -> Sequence[Check]:
    """The checks that were made, up to the first that failed."""
    problems = incoming.problems
    if not problems and (problem := fetch_incoming(hub, published.remote.repo_id, incoming, folder)):
        problems = (problem,)
    if problems:
        return [Check(FILES, False, "; ".join(problems))]
    files = Check(FILES, True, f"{len(incoming.changed)} changed, {len(incoming.removed)} taken away; no code, no pickle")
    return [files, *_examined(inputs, published, folder)]


def _examined(inputs: ReviewInputs, published: _Published, folder: Path) -> list[Check]:
    """By a process of its own: a file that brings down what reads it brings down that."""
    answer = folder.with_suffix(".json")
    command = [sys.executable, "-P", "-m", "echoself_action.reviewing.worker", folder, published.folder.path, inputs.gate]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder.with_suffix(".home"))}
    try:
        ended = subprocess.run(
            [*map(str, command), published.held_to.commit, str(answer)],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_MINUTES * 60,
            check=False,
        )
        said, how = ended.stderr, f"ended with {ended.returncode}" if ended.returncode else ""
    except subprocess.TimeoutExpired:
        said, how = "", f"took more than {_MINUTES} minutes"
    found = [Check(**check) for check in json.loads(answer.read_text("utf-8"))] if answer.exists() else []
    if how:
        note(said[-4000:])
        found.append(Check(CHECKS[min(len(found), len(CHECKS) - 1)], False, f"the process that read the files {how}"))
    return found
