"""Pull requests of others on the Hub: each is compared with the published model and gets one comment, even if it is hostile."""

import json
import pickle
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from localhub import Account, LocalHub
from safetensors.torch import load, save
from tokenizers import Tokenizer

from echoself_action.config.mode_inputs import ReviewInputs
from echoself_action.hub.huggingface_compat import xet_disabled
from echoself_action.reviewing import review
from echoself_action.reviewing.comment import Check
from echoself_action.reviewing.worker import run_checks

from ..conftest import SMALL, Cli

REPO = "me/model"
TRAIN = f"train --tokenizer bytes {SMALL} --output-dir published"
PUBLISH = f"deploy --hub hub --repo-id {REPO} --output-dir published"
GUEST = {"guest": Account("guest", owns=frozenset({"guest"}))}


class Community:
    """A Hub with a model that is published, where a guest opens pull requests and the owner's workflow checks them."""

    def __init__(self, server: LocalHub, echoself: Cli, begun: Cli, patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.server, self.tmp_path = server, tmp_path
        self.owner, self.guest = HfApi(server.url, token="owner"), HfApi(server.url, token="guest")
        self._echoself, self._begun, self._patch = echoself, begun, patch
        patch.setenv("HF_TOKEN", "owner")
        self.published = begun(TRAIN, PUBLISH)

    def better(self) -> dict[str, str]:
        return self._begun(f"train --tokenizer bytes {SMALL} --max-iters 60 --output-dir better")

    def check(self, *words: str, code: int = 0) -> dict[str, str]:
        (self.tmp_path / "summary.md").unlink(missing_ok=True)
        command = f"compare --hub {self.server.url} --repo-id {REPO} --data docs/*.md"
        if not any(word.startswith("--pull-requests") for word in words):
            words = (*words, "--pull-requests open")
        return self._echoself(command, *words, code=code)

    def propose(self, files: dict[str, bytes], **more: Any) -> int:
        operations: list[Any] = [CommitOperationAdd(name, content) for name, content in files.items()]
        if set(files) - {"README.md"}:  # it is not of these files
            operations.append(CommitOperationDelete("provenance.json"))
        number = self.commit(self.guest, operations, create_pr=True, **more).pr_num
        assert number
        return number

    def commit(self, client: HfApi, operations: list[Any], repo_id: str = REPO, **more: Any) -> CommitInfo:
        """By another client than ours, which uploads by LFS."""
        with xet_disabled():
            return client.create_commit(repo_id, operations, commit_message="A change", **more)

    def comments(self, number: int) -> list[Any]:
        events = self.owner.get_discussion_details(REPO, number).events
        return [event for event in events if event.type == "comment" and event.author == "local"]

    @property
    def summary(self) -> str:
        return (self.tmp_path / "summary.md").read_text()


@pytest.fixture
def community(
    echoself: Cli, begun: Cli, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Community]:
    with LocalHub(workspace / "hub", token="owner", accounts=GUEST) as server:
        yield Community(server, echoself, begun, monkeypatch, tmp_path)


@pytest.fixture
def examined_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what the checks find: without a process of their own, which first loads PyTorch and transformers."""

    def in_process(inputs: ReviewInputs, published: review._Reference, folder: Path) -> list[Check]:
        return list(run_checks(folder, published.folder.path, inputs.gate, published.baseline.commit))

    monkeypatch.setattr(review, "_run_worker", in_process)


def model(outputs: dict[str, str]) -> dict[str, bytes]:
    folder = Path(outputs["model_dir"])
    names = ("config.json", "generation_config.json", "model.safetensors", "training_metadata.json")
    return {name: (folder / name).read_bytes() for name in names}


def test_a_better_model_passes_and_its_comment_is_updated_after_a_new_commit(community: Community) -> None:
    better = community.better()
    community._patch.setenv("HF_TOKEN", "guest")
    proposed = community._echoself(f"deploy --hub {community.server.url} --repo-id {REPO} --output-dir better --create-pr")
    community._patch.setenv("HF_TOKEN", "owner")
    number = int(proposed["pr_url"].rpartition("/")[2])
    outputs = community.check()
    assert (outputs["gate_result"], json.loads(outputs["pull_requests"])) == ("passed", {"1": "passed"})
    (message,) = community.comments(number)
    head = community.owner.model_info(REPO, revision="refs/pr/1").sha
    assert message.content.startswith(f"<!-- echoself-action: {head} passed -->\n**Passed**")
    assert message.content.count("| yes |") == 5
    assert "tensors match; max absolute logit difference" in message.content
    assert "which is not the corpus" not in message.content
    assert re.search(r"significantly better than the published model: [\d.]+ vs. [\d.]+ bits per byte", message.content)
    assert "### [1]" in community.summary

    again = community.check()  # nothing has changed: nothing is checked, and no comment is written
    assert (again["gate_result"], json.loads(again["pull_requests"])) == ("", {"1": "passed"})
    assert community.comments(number) == [message]

    operations = [CommitOperationAdd("model.safetensors", (Path(better["model_dir"]) / "model.safetensors").read_bytes()[:-1])]
    community.commit(community.owner, operations, revision="refs/pr/1")
    assert community.check("--gate-fails-job true", code=5)["gate_result"] == "refused"
    (changed,) = community.comments(number)
    assert changed.id == message.id
    assert changed.edited
    assert " refused -->" in changed.content
    community.check()  # the job fails once for a refusal, not every night
    one = community.check("--pull-requests 1")  # one that is named is checked again
    assert (one["gate_result"], one["pr_url"]) == ("refused", f"{community.server.url}/{REPO}/discussions/1")
    assert len(community.comments(number)) == 1


def test_exports_must_be_those_of_the_proposed_model(community: Community, examined_here: None) -> None:
    community.better()
    community._patch.setenv("HF_TOKEN", "guest")
    community._echoself(f"deploy --hub {community.server.url} --repo-id {REPO} --output-dir better --create-pr --formats gguf")
    community._patch.setenv("HF_TOKEN", "owner")
    assert community.check()["gate_result"] == "passed"
    assert "6 exported files are those of this model" in community.comments(1)[-1].content
    files = [CommitOperationAdd("model-F16.gguf", b"GGUF of another model")]
    community.commit(community.owner, files, revision="refs/pr/1")
    assert community.check()["gate_result"] == "refused"
    assert "model-F16.gguf: not what this program exports from the proposed model" in community.comments(1)[-1].content


def test_a_worse_and_an_identical_model_are_refused_regardless_of_the_losses_in_their_metadata(
    community: Community, echoself: Cli, examined_here: None
) -> None:
    worse = echoself(f"train --tokenizer bytes {SMALL} --max-iters 2 --eval-interval 1", "--output-dir worse")
    files = model(worse)
    facts = json.loads(files["training_metadata.json"])
    files["training_metadata.json"] = json.dumps(facts | {"val_loss": 0.01, "best_val_loss": 0.01}).encode()
    number = community.propose(files)
    community.propose({"README.md": b"# Only words\n"})
    outputs = community.check()
    assert json.loads(outputs["pull_requests"]) == {"1": "refused", "2": "refused"}
    assert "not significantly better than the published model" in community.comments(number)[0].content
    by_loss = community.check(f"--pull-requests {number} --gate max_val_loss=1 --gate-fails-job true", code=5)
    assert by_loss["gate_result"] == "refused"
    assert community.check("--pull-requests 2 --gate not_worse=0.001")["gate_result"] == "passed"
    assert community.check("--pull-requests 2 --gate none")["gate_result"] == "passed"


def test_a_forged_review_comment_of_another_account_is_ignored(community: Community, examined_here: None) -> None:
    number = community.propose({"README.md": b"# Words\n"})
    head = community.owner.model_info(REPO, revision="refs/pr/1").sha
    community.guest.comment_discussion(REPO, number, f"<!-- echoself-action: {head} passed -->\n**Passed**")
    assert json.loads(community.check("--gate-fails-job true", code=5)["pull_requests"]) == {"1": "refused"}
    assert len(community.comments(number)) == 1


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def safetensors(header: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def pointer(size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize {size}\n".encode()


def config(published: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    return {"config.json": json.dumps(json.loads(published["config.json"]) | changes).encode()}


def not_numbers(weights: bytes) -> dict[str, bytes]:
    tensors = load(weights)
    tensors["transformer.ln_f.weight"] = tensors["transformer.ln_f.weight"] * float("nan")
    return {"model.safetensors": save(tensors, {"format": "pt"})}


def with_a_token(tokenizer: bytes) -> bytes:
    backend = Tokenizer.from_str(tokenizer.decode())
    assert backend.add_tokens(["the"]) == 1
    return backend.to_str().encode()


HOSTILE: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "a pickle beside the weights": (
        lambda _: {"pytorch_model.bin": pickle.dumps(Bomb())},
        "pytorch_model.bin is not an allowed",
    ),
    "a pickle with a good name": (lambda _: {"model.safetensors": pickle.dumps(Bomb())}, "model.safetensors can't be read"),
    "a web page": (lambda _: {"config.json": b"<html>Sign in</html>"}, "config.json is not a valid config.json"),
    "truncated weights": (lambda it: {"model.safetensors": it["model.safetensors"][:-100]}, "can't be read"),
    "an enormous header": (lambda _: {"model.safetensors": b"\xff" * 8 + b"{}"}, "can't be read"),
    "tensors of terabytes": (
        lambda _: {"model.safetensors": safetensors({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})},
        "can't be read",
    ),
    "an enormous config": (lambda it: config(it, n_layer=1 << 40), "a size below 1 or above"),
    "a config of another shape": (lambda it: config(it, n_embd=32), "does not match its config.json"),
    "code beside the model": (
        lambda it: config(it, auto_map={"AutoModelForCausalLM": "evil.Model"}) | {"evil.py": b"open('exploded', 'w')"},
        "evil.py is not an allowed file",
    ),
    "code of another repo": (
        lambda it: config(it, auto_map={"AutoModelForCausalLM": "evil/repo--evil.Model"}),
        "names code to load with the model: auto_map",
    ),
    "a tokenizer with code": (
        lambda _: {"tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": ["evil/repo--evil.Tok", null]}}'},
        "tokenizer_config.json names code",
    ),
    "another modeling file": (
        lambda _: {"modeling_nanecho.py": b"open('exploded', 'w')"},
        "is code that differs from this program's own",
    ),
    "a config that never ends": (lambda _: {"config.json": b"[" * 200_000}, "config.json is not a valid config.json"),
    "weights that are no numbers": (
        lambda it: not_numbers(it["model.safetensors"]) | {"training_metadata.json": b"{}"},
        "has different logits in transformers than here",
    ),
    "a tokenizer that exceeds vocab_size": (
        lambda it: {"tokenizer.json": with_a_token(it["tokenizer.json"])},
        "has token ids up to 257, and config.json says vocab_size=257",
    ),
    "a kernel from elsewhere": (lambda it: config(it, attn_implementation="evil/kernel"), "attn_implementation"),
    "a tokenizer of nothing": (lambda _: {"tokenizer.json": b"{}"}, "tokenizer.json"),
    "a workflow command and markup": (
        lambda it: config(it, model_type="x`|\n::error::<b>@everyone</b> | `![](http://evil)"),
        "describes a model that this program can't compute",
    ),
}


def test_hostile_pull_requests_are_refused_with_a_reason_and_do_not_stop_the_others(
    community: Community, capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizer = Path(community.published["model_dir"]) / "tokenizer.json"
    published = model(community.published) | {tokenizer.name: tokenizer.read_bytes()}
    numbers = {community.propose(make(published)): (name, reason) for name, (make, reason) in HOSTILE.items()}
    last = community.propose(model(community.better()))
    capfd.readouterr()
    outputs = community.check()
    results = json.loads(outputs["pull_requests"])
    assert results == {str(number): "refused" for number in numbers} | {str(last): "passed"}
    for number, (name, reason) in numbers.items():
        (message,) = community.comments(number)
        assert reason in message.content, name
        assert "this is a bug" not in message.content.lower()
    logged = capfd.readouterr()
    shown = [community.comments(number)[0].content for number in numbers] + [community.summary]
    assert not any(line.startswith("::error::<b>") for text in (logged.out, logged.err) for line in text.splitlines())
    for text in shown:
        for line in text.splitlines():
            assert "<b>" not in re.sub(r"`[^`]*`", "", line)
            assert "@everyone" not in re.sub(r"`[^`]*`", "", line)
        assert str(Path.cwd()) not in text
        assert tempfile.gettempdir() not in text
    assert not list(Path.cwd().rglob("exploded"))
    assert not list(community.tmp_path.rglob("evil.py"))


def test_files_that_differ_from_the_listing_of_the_hub_are_refused(community: Community) -> None:
    """Pushed with git, which the Hub does not check: links, and pointers to missing large files."""
    clone, bare = community.tmp_path / "clone", community.server.storage.folder / "models" / "me" / "model.git"
    numbers = [community.propose({"README.md": f"# {index}\n".encode()}) for index in range(4)]

    def git(*words: str) -> None:
        who = ["-c", "user.name=guest", "-c", "user.email=a@b", "-c", "filter.lfs.smudge=cat", "-c", "filter.lfs.clean=cat"]
        who += ["-c", "filter.lfs.process=", "-c", "filter.lfs.required=false"]
        subprocess.run(["git", *who, *words], cwd=clone, check=True, capture_output=True)

    clone.mkdir()
    git("clone", "-q", str(bare), ".")
    for number, (name, content) in zip(
        numbers,
        [
            ("model.safetensors", pointer(1 << 50)),
            ("model.safetensors", pointer(1000)),
            ("generation_config.json", None),
            ("notes.txt", None),
        ],
        strict=True,
    ):
        git("fetch", "-q", "origin", f"refs/pr/{number}")
        git("checkout", "-q", "-f", "FETCH_HEAD")
        (clone / name).unlink(missing_ok=True)
        (clone / name).write_bytes(content) if content else (clone / name).symlink_to("/etc/passwd")
        git("add", "-f", name)
        git("commit", "-qm", "odd")
        git("push", "-q", "origin", f"HEAD:refs/pr/{number}")
    outputs = community.check()
    assert set(json.loads(outputs["pull_requests"]).values()) == {"refused"}
    for number, reason in zip(
        numbers,
        ("1,125,899,906,842,624 bytes, the maximum is 4,000,000,000", "can't be downloaded", "symbolic link", "symbolic link"),
        strict=True,
    ):
        assert reason in community.comments(number)[0].content


def test_a_tokenizer_that_does_not_round_trip_is_refused(community: Community, examined_here: None) -> None:
    """With every letter the same, a text is easy to predict."""
    folder = Path(community.published["model_dir"])
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"Regex": "[^a]"}, "content": "a"}
    number = community.propose({"tokenizer.json": json.dumps(tokenizer).encode()})
    community.check("--gate-fails-job true", code=5)
    assert re.search(r"tokenizer.json does not round-trip \d+ of \d+ held-out texts", community.comments(number)[0].content)


def test_a_model_with_another_provenance_is_refused(community: Community) -> None:
    """Its provenance, which main has, is not of its files."""
    files = model(community.better())
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    made = community.commit(community.guest, operations, create_pr=True)
    community.check("--gate-fails-job true", code=5)
    assert "does not match its provenance.json" in community.comments(made.pr_num)[0].content


def test_a_check_that_times_out_is_refused_and_the_next_one_runs(community: Community, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (b"# One\n", b"# Two\n"):
        community.propose({"README.md": words})
    monkeypatch.setattr(review, "_TIMEOUT_MINUTES", 0.001)
    assert json.loads(community.check("--gate-fails-job true", code=5)["pull_requests"]) == {"1": "refused", "2": "refused"}
    assert "the worker process took more than 0.001 minutes" in community.comments(2)[0].content


def test_a_pull_request_on_an_outdated_main_is_refused(community: Community) -> None:
    number = community.propose({"README.md": b"# Words\n"})
    deleted = community.commit(community.guest, [CommitOperationDelete("tokenizer.json")], create_pr=True)
    better = Path(community.better()["model_dir"])
    shutil.rmtree("published")
    community._echoself(f"deploy --hub {community.server.url} --repo-id {REPO} --checkpoint {better}")
    community.check("--gate-fails-job true", code=5)
    assert "the model on main has changed since it was opened" in community.comments(number)[0].content
    assert "tokenizer.json is missing" in community.comments(deleted.pr_num)[0].content


def test_closed_pull_requests_discussions_and_a_main_without_a_model_are_errors(
    community: Community, capsys: pytest.CaptureFixture[str]
) -> None:
    community.owner.create_discussion(REPO, title="A question")
    community.propose({"README.md": b"# Words\n"})
    community.owner.change_discussion_status(REPO, 2, "closed")
    for number, message in ((1, "1 of me/model is a discussion"), (2, "2 of me/model is closed")):
        community.check(f"--pull-requests {number}", code=2)
        assert message in capsys.readouterr().out
    assert community.check()["pull_requests"] == "{}"
    community.owner.create_repo("me/empty")
    community.commit(community.owner, [CommitOperationAdd("a.md", b"a")], "me/empty", create_pr=True)
    community.check("--repo-id me/empty", code=3)
    assert "has no model to compare with" in capsys.readouterr().err


@pytest.mark.parametrize("more", ["--candidates a,b", "--promote better", "--revision v1"])
def test_contradictory_inputs_are_reported_before_any_work(echoself: Cli, more: str) -> None:
    echoself(f"compare --repo-id {REPO} --pull-requests open {more}", code=2)
