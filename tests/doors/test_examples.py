"""The workflow of the README and every one in examples/ are run, step by step, with a small model.

The Hub and the API of GitHub are on loopback. What is changed in an example is in `SIZES`, `STEPS` and `FLAGS`: the size of the
model, the number of steps, and the device.
"""

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from localhub import LocalHub, TrustedPublishing
from transformers import GPT2Config, GPT2LMHeadModel

from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.hub.client import open_hub

from ..conftest import SCENES, Left
from ..github.server import GitHub, running
from ..hub.test_oidc import ISSUER, KEY, TRUSTED
from ..hub.test_oidc import Runner as IdTokenServer
from .conftest import JOB_TOKEN, ROOT
from .workflows import JobResult, Machine, World, make_repository, programs

pytestmark = pytest.mark.examples
README = (ROOT / "README.md").read_text()
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.yml"))
SIZES = {"n_layer": "1", "n_head": "1", "n_embd": "8", "block_size": "16"}
STEPS = {"max_iters": "4", "eval_interval": "2", "log_interval": "4", "eval_tokens": "512", "batch_size": "2", "device": "cpu"}
FLAGS = "--max-iters 4 --eval-interval 4 --batch-size 2 --n-layer 1 --n-head 1 --n-embd 8 --block-size 16 --device cpu"
MODEL, TOKEN = "you/your-model", "hf_owner"
PUBLISH = f"cycle {FLAGS} --preset ci --data docs/*.md --tokenizer bpe:512 --hub hub --repo-id {MODEL}"
DOCUMENTS = [path.name for path in SCENES[:6]]
PROSE = {f"docs/{path.name}": path.read_text() for path in SCENES[:6]}
RECORDS = "".join(json.dumps({"text": path.read_text()}) + "\n" for path in SCENES[6:26])


@dataclass
class Stage:
    """What the examples run on: `hub` has the model that they expect, if any, and `github` is GitHub's API."""

    hub: LocalHub
    github: GitHub
    world: World
    workflow: Path

    def run(self, event_name: str, **event: object) -> dict[str, list[JobResult]]:
        """Run the workflow; every job succeeds, and no job is skipped."""
        results = self.world.run(self.workflow, event_name, event)
        for legs in results.values():
            for leg in legs:
                assert leg.result == "success", f"{self.workflow.name}, {leg.name}:\n{leg.log}"
        return results

    def files(self, repo_id: str, kind: str = "model") -> list[str]:
        return HfApi(self.hub.url, token=TOKEN).list_repo_files(repo_id, repo_type=kind)

    def commits(self, repo_id: str = MODEL) -> int:
        return len(HfApi(self.hub.url, token=TOKEN).list_repo_commits(repo_id))


@pytest.fixture
def stage(request: pytest.FixtureRequest, action: Path, tools: Path, tmp_path: Path) -> Iterator[Stage]:
    """The stage of the example that the test is named after. Its file is in the repository, too, as a user has it there."""
    workflow = ROOT / "examples" / file_of(request.node.name)
    if workflow.name == "readme.yml":
        workflow = tmp_path / "model.yml"
        workflow.write_text(README.partition("```yaml\n")[2].partition("```")[0])
    trusted = TrustedPublishing(ISSUER, KEY, {MODEL: TRUSTED})
    with (
        LocalHub(tmp_path / "hub", token=TOKEN, publishing=trusted) as hub,
        running() as github,
        ThreadingHTTPServer(("127.0.0.1", 0), IdTokenServer) as tokens,
    ):
        github.token = JOB_TOKEN
        threading.Thread(target=tokens.serve_forever, daemon=True).start()
        machine = Machine(
            {
                "PATH": programs(),
                "HF_ENDPOINT": hub.url,
                "GITHUB_API_URL": github.url,
                "OMP_NUM_THREADS": "1",
                "SMALL_FLAGS": FLAGS,
                "FREE_PORT": str(free_port()),
            },
            {
                "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{tokens.server_port}/token?api-version=2",
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token",
            },
            github,
        )
        files = {f".github/workflows/{workflow.name}": workflow.read_text(), "README.md": "# A repository\n"}
        world = World(
            place=tmp_path / "jobs",
            action=action,
            tools=tools,
            repository=make_repository(tmp_path / "repository", files | PROSE | {"corpus/records.jsonl": RECORDS}),
            machine=machine,
            small=SIZES | STEPS,
            secrets={"HF_TOKEN": TOKEN},
            variables={"MASTER": "127.0.0.1"},
        )
        yield Stage(hub, github, world, workflow)
        tokens.shutdown()


@pytest.fixture
def published(stage: Stage, left_by: Left, tmp_path: Path) -> Callable[..., None]:
    """Publishes the model that an example expects on the Hub, with these commands."""

    def publish(*commands: str) -> None:
        shutil.copytree(left_by(tuple(DOCUMENTS), *commands)[0] / "hub", tmp_path / "hub", dirs_exist_ok=True)

    return publish


def file_of(test: str) -> str:
    """The example that a test is named after."""
    return test.removeprefix("test_").replace("_", "-") + ".yml"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_every_example_is_run() -> None:
    tests = {file_of(name) for name in globals() if name.startswith("test_")}
    assert [name for name in EXAMPLES if name not in tests] == []


def test_readme(stage: Stage) -> None:
    (job,) = stage.run("schedule")["cycle"]
    assert "model.safetensors" in stage.files(MODEL)
    assert job.actions[0].outputs["result"] == "published"


def test_train(stage: Stage) -> None:
    request = {"number": 7, "head": {"sha": "c0ffee", "repo": {"full_name": "me/repo"}}}
    (job,) = stage.run("pull_request", pull_request=request)["train"]
    assert job.actions[0].outputs["step"] == "4"
    assert (stage.world.place / "artifacts/model/checkpoint-4-decayed/model.safetensors").exists()
    (comment,) = stage.github.comments
    assert (comment["issue"], "| step | bits per byte |" in comment["body"]) == (7, True)


def test_train_deploy(stage: Stage, published: Callable[..., None]) -> None:
    published(PUBLISH)
    before = stage.commits()
    jobs = stage.run("push", ref="refs/heads/main")
    assert "resuming at step" in jobs["train"][0].log
    assert stage.commits() == before + 1
    assert "bits per byte of held-out text" in jobs["deploy"][0].log


def test_cycle_keyless(stage: Stage) -> None:
    HfApi(stage.hub.url, token=TOKEN).create_repo(MODEL)
    (job,) = stage.run("schedule", schedule="17 3 * * *")["cycle"]
    assert f"using keyless access to {MODEL}" in job.log
    assert "model.safetensors" in stage.files(MODEL)


def test_cycle_datasets(stage: Stage) -> None:
    stage.run("workflow_dispatch")
    assert "model.safetensors" in stage.files(MODEL)
    assert [name for name in stage.files(f"{MODEL}-dataset", "dataset") if name.endswith(".parquet")]


def test_fine_tune_gpt2(stage: Stage, tmp_path: Path) -> None:
    """A GPT-2 of one layer has the name of the real one."""
    stage.world.small = STEPS
    tiny = GPT2LMHeadModel(GPT2Config(n_positions=512, n_embd=8, n_layer=1, n_head=1, vocab_size=257, eos_token_id=256))
    tiny.save_pretrained(tmp_path / "tiny")
    make_tokenizer("bytes", lambda: iter(())).save(tmp_path / "tiny")
    with open_hub(stage.hub.url, TOKEN) as hub:
        hub.api.create_repo("openai-community/gpt2")
        hub.api.upload_folder(repo_id="openai-community/gpt2", folder_path=tmp_path / "tiny")
    (job,) = stage.run("schedule")["cycle"]
    assert "start: openai-community/gpt2@" in job.log
    assert "block 256" in job.log
    assert "model.safetensors" in stage.files("you/your-gpt2")


def test_gpu(stage: Stage) -> None:
    stage.run("schedule")
    assert "model.safetensors" in stage.files("you/your-large-model")


def test_hf_jobs(stage: Stage, tmp_path: Path) -> None:
    """With the action's own choice of a runtime: there is no Docker engine in a Job."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    (tmp_path / "bin/docker").chmod(0o755)
    stage.world.machine.environment_of_jobs["PATH"] = f"{tmp_path / 'bin'}:{programs()}"
    stage.world.runtime = "auto"
    (job,) = stage.run("schedule")["cycle"]
    assert "runtime: venv, because the Docker engine can't be used: Cannot connect to the Docker daemon" in job.log
    assert "Install a C compiler, which compiled kernels need" in job.steps
    assert "model.safetensors" in stage.files(MODEL)


def test_matrix(stage: Stage, tmp_path: Path) -> None:
    """The tokenizers are replaced, too: one needs more text, and one its vocabulary from the network."""
    stage.world.small = SIZES | STEPS | {"tokenizer": "bytes"}
    files = {
        ".github/echoself.yml": (ROOT / "examples/models/echoself.yml").read_text(),
        "chats/chats.jsonl": RECORDS,
        **{f"src/module{number}.py": f"def f{number}(x):\n    return x + {number}\n" * 50 for number in range(20)},
    }
    stage.world.repository = make_repository(tmp_path / "models", files | PROSE)
    jobs = stage.run("schedule")
    assert json.loads(jobs["models"][0].outputs["names"]) == ["docs", "chats", "code"]
    assert len(jobs["cycle"]) == 3
    for name in ("docs", "chats", "code"):
        assert "model.safetensors" in stage.files(f"you/{name}-model")


def test_echoself(stage: Stage, tmp_path: Path) -> None:
    """EchoSelf's repository in small: chats with questions, and a tokenizer of its own; two nights, in two phases of five."""
    short = {"curriculum_iters": "10", "evaluate": "held-out", "introspection": "false"}  # what takes minutes is left out
    stage.world.small = SIZES | {"n_layer": "4", "n_embd": "16", "n_head": "4"} | STEPS | short
    stage.world.secrets = {"HFESELF": TOKEN, "HFMODEL": MODEL}
    make_tokenizer("bpe:512", lambda: (path.read_text() for path in SCENES)).save(tmp_path / "bpe")
    said = [text for path in SCENES[:6] for text in path.read_text().split("\n\n")]
    pairs = [[{"role": "user", "content": one}, {"role": "assistant", "content": other}] for one, other in pairwise(said)]
    files = {
        ".github/echoself.yml": (ROOT / "examples/echoself/settings.yml").read_text(),
        "NanEcho/dte_tokenizer/tokenizer.json": (tmp_path / "bpe/tokenizer.json").read_text(),
        "NanEcho/persona_corpus/authentic_conversations.md": SCENES[7].read_text(),
        "data/training_sources/echobeats_corpus_v0.7.0.jsonl": "".join(json.dumps({"messages": one}) + "\n" for one in pairs),
        "data/training_sources/deep_tree_echo_dan_conversation.jsonl": json.dumps({"mapping": {}}, indent=2),
    }
    stage.world.repository = make_repository(tmp_path / "echoself", files)
    jobs = stage.run("schedule")
    assert "phase basic_awareness" in jobs["train"][0].log
    assert "model.safetensors" in stage.files(MODEL)
    shutil.rmtree(stage.world.place)
    jobs = stage.run("schedule")
    log = jobs["train"][0].log
    assert "resuming at step 3" in log
    assert "phase persona_dimensions" in log


def test_several_runners(stage: Stage) -> None:
    (first, second) = stage.run("workflow_dispatch")["cycle"]
    assert "in 2 processes with sharding" in first.log
    assert "step 4/4" in first.log
    assert "step 4/4" not in second.log, "the main process reports"
    assert "model.safetensors" in stage.files("you/your-large-model")


def test_pull_and_use(stage: Stage, published: Callable[..., None]) -> None:
    published(PUBLISH)
    (job,) = stage.run("workflow_dispatch")["write"]
    assert "Once upon a time" in job.log


def test_check_pull_requests(stage: Stage, published: Callable[..., None]) -> None:
    published(PUBLISH, f"{PUBLISH} --create-pr --gate none")
    (job,) = stage.run("schedule")["check"]
    assert f"Pull requests of [{stage.hub.url}/{MODEL}]" in job.summary
    assert "1 checked" in job.summary


def test_keep_schedule_alive(stage: Stage) -> None:
    stage.github.workflows = {"cycle.yml": "disabled_inactivity", "keep-schedule-alive.yml": "active"}
    (job,) = stage.run("schedule")["enable"]
    assert set(stage.github.workflows.values()) == {"active"}
    assert "cycle.yml was disabled_inactivity" in job.summary
    stage.github.workflows["cycle.yml"] = "disabled_manually"
    shutil.rmtree(stage.world.place)
    stage.run("schedule")
    assert stage.github.workflows["cycle.yml"] == "disabled_manually"
