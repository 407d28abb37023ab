"""The image that the action selects, the options of `docker run`, and the content of the image."""

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import hatch_build

from .conftest import JOB_TOKEN, ROOT, SMALL, Runner, recorded

MAX_BYTES = 1_500_000_000


@pytest.mark.parametrize(
    ("inputs", "gpu", "flavor"),
    [
        ({"mode": "deploy"}, "yes", "cpu"),
        ({"mode": "pull"}, "yes", "cpu"),
        ({"mode": "train"}, "yes", "cuda"),
        ({"mode": "cycle"}, "yes", "cuda"),
        ({"mode": "train", "device": "cpu"}, "yes", "cpu"),
        ({"mode": "train"}, "", "cpu"),
        ({"config": "my.yml"}, "yes", "cuda"),  # the mode is unknown until the file is read
    ],
)
def test_the_cuda_image_is_only_for_training_on_a_gpu(asked: Runner, inputs: dict[str, str], gpu: str, flavor: str) -> None:
    assert asked.run(inputs, GPU=gpu).code == 0
    pull, run = recorded(asked)
    assert pull[-1] == run[-1]
    assert re.fullmatch(rf"ghcr\.io/9cog/echoself-action:\d+\.\d+\.\d+-{flavor}", pull[-1])
    assert ("--gpus" in run, "--shm-size" in run) == (flavor == "cuda",) * 2


@pytest.mark.parametrize(("ref", "tag"), [("0123abc", "0123abc-cpu"), ("a/Branch", "a-Branch-cpu"), ("v2-dev", "v2-dev-cpu")])
def test_a_commit_or_a_branch_never_uses_the_image_of_a_release(asked: Runner, ref: str, tag: str) -> None:
    asked.ref = ref
    asked.run({"mode": "pull"})
    assert recorded(asked)[0][-1] == f"ghcr.io/9cog/echoself-action:{tag}"


def test_an_image_that_is_not_published_is_built(asked: Runner) -> None:
    assert asked.run({"mode": "pull"}, UNPUBLISHED="yes").code == 0
    pull, build, run = recorded(asked)
    assert (pull[0], build[0], build[2], run[-1]) == ("pull", "build", "FLAVOR=cpu", "sha256:built")


def test_a_checkout_of_the_action_is_built_and_nothing_is_pulled(asked: Runner) -> None:
    asked.ref = asked.repository = ""
    asked.run({"mode": "pull"})
    assert [words[0] for words in recorded(asked)] == ["build", "run"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancel_while_an_image_is_pulled_starts_nothing(asked: Runner, tmp_path: Path, number: signal.Signals) -> None:
    cancelled = tmp_path / "cancelled"
    job = asked.start({"mode": "pull"}, UNTIL=str(cancelled))
    job.wait_for("pulling")
    job.send(number)
    cancelled.touch()
    assert job.end().code == 130
    assert [words[0] for words in recorded(asked)] == ["pull"]


def test_no_value_is_on_the_command_line_and_the_container_has_few_rights(asked: Runner) -> None:
    secrets = {"HF_TOKEN": "secret-1", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret-2"}
    asked.run({"mode": "pull", "hf_token": "secret-3", "data": "secret-4"}, **secrets)
    run = recorded(asked)[-1]
    assert "secret" not in " ".join(run)
    assert all("=" not in name for option, name in pairwise(run) if option == "--env")
    assert {"HF_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "ECHOSELF_INPUTS"} <= set(run)
    options = " ".join(run)
    assert "--cap-drop ALL --security-opt no-new-privileges" in options
    assert f"--user {os.getuid()}:{os.getgid()}" in options
    assert "docker.sock" not in options
    assert "--network" not in options


@pytest.mark.parametrize(
    ("event", "release", "token"),
    [
        ("workflow_run", "", JOB_TOKEN),
        ("push", "", "none"),
        ("push", "false", "none"),
        ("push", "true", JOB_TOKEN),
        ("pull_request_target", "", "none"),
    ],
)
def test_the_jobs_own_token_is_passed_in_a_workflow_run_event_or_for_a_release_and_by_name(
    asked: Runner, event: str, release: str, token: str
) -> None:
    inputs = {"mode": "deploy", "tag": '"create_release":"true"', "create_release": release}
    job = asked.run(inputs, GITHUB_EVENT_NAME=event)
    assert f"token: {token}" in Path(asked.environment["RECORD"]).read_text().splitlines()
    assert "GITHUB_TOKEN" in recorded(asked)[-1]
    assert JOB_TOKEN not in " ".join(recorded(asked)[-1]) + job.raw_log


@pytest.mark.parametrize("image", ["--privileged", "a b", "$(touch pwned)", 'x"y', "a\nb", "é"])
def test_an_invalid_image_reference_is_rejected(asked: Runner, image: str) -> None:
    job = asked.run({"mode": "pull", "image": image})
    assert job.code == 2
    assert "image: not a valid image reference" in job.summary
    assert "run" not in Path(asked.environment["RECORD"]).read_text()


# --- for real, in .ci/container

WIDER = {"block_size": "32", "n_embd": "32"}  # a model that the native kernels support

container = pytest.mark.container


def inside(script: str) -> str:
    command = ["docker", "run", "--rm", "--entrypoint", "sh", os.environ["ECHOSELF_IMAGE"], "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@container
def test_the_cpu_image_is_small() -> None:
    sizes = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", os.environ["ECHOSELF_IMAGE"]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(sizes.stdout) <= MAX_BYTES


@container
def test_the_image_has_native_kernels_for_all_instruction_sets_of_its_architecture() -> None:
    script = "import platform; from echoself_action import native; from echoself_action.native import c_api; "
    script += "found = native._library(); print(found, platform.machine(), *c_api.instruction_sets(found), sep='\\n')"
    found = inside(f'python -c "{script}"')
    library, machine, *sets = found.splitlines()
    assert library.startswith("<CDLL '/app/")
    assert sets == list(hatch_build.INSTRUCTION_SETS[machine])


@container
def test_the_image_has_no_root_no_compiler_and_no_cache() -> None:
    assert inside("id -u").strip() == "65534"
    assert inside("command -v gcc cc make git || true") == ""
    assert inside("ls -d /root/.cache /opt/venv/lib/python3*/site-packages/pip 2>/dev/null || true") == ""
    assert re.fullmatch(
        r"\d+\.\d+\.\d+\n", inside("python -c 'from importlib.metadata import version as v; print(v(\"echoself-action\"))'")
    )


@container
def test_files_removed_from_the_image_are_not_needed() -> None:
    """Imports all our modules, and the parts of torch, pyarrow and transformers that we use."""
    inside(
        "cd /tmp && python -c 'import importlib, pkgutil, echoself_action as package\n"
        'for found in pkgutil.walk_packages(package.__path__, "echoself_action."):\n'
        '    found.name.endswith("__main__") or importlib.import_module(found.name)\n'
        "import torch._dynamo, torch.distributed, torch.multiprocessing, pyarrow.parquet, pyarrow.dataset\n"
        "from transformers import GPT2LMHeadModel, AutoTokenizer'"
    )


@container
def test_the_steps_of_the_action_take_at_most_twice_as_long_as_docker_run(in_container: Runner) -> None:
    """In turns with `docker run` of the same program in the same image, as the machine may be slow: minimum of three."""
    plain = ["docker", "run", "--rm", "-e", 'ECHOSELF_INPUTS={"mode": "x"}', os.environ["ECHOSELF_IMAGE"]]
    ours, theirs = list[float](), list[float]()
    for _ in range(3):
        for seconds, code in (
            (ours, lambda: in_container.run({"mode": "x"}).code),
            (theirs, lambda: subprocess.run(plain, capture_output=True).returncode),
        ):
            began = time.monotonic()
            assert code() == 2
            seconds.append(time.monotonic() - began)
    print(f"docker run {min(theirs):.2f} s, the action's steps {min(ours):.2f} s")
    assert min(ours) <= 2 * min(theirs)


@container
def test_the_image_has_the_vocabulary_of_gpt2(in_container: Runner) -> None:
    if not inside("ls /tmp/data-gym-cache"):
        pytest.skip("this image was built without a network")
    job = in_container.run(SMALL | {"mode": "train", "tokenizer": "gpt2"})
    assert job.code == 0, job.log


@container
@pytest.mark.timeout(600)
def test_the_libraries_of_exports_are_installed_by_the_jobs_that_export(in_container: Runner) -> None:
    """In a container the job's user can write to RUNNER_TEMP and the workspace only."""
    publish = {"repo_id": "me/model", "hub": "hub", "max_iters": "2"}
    plain = in_container.run(SMALL | publish | {"mode": "cycle"})
    assert plain.code == 0, plain.log
    assert "installing" not in plain.log
    packages = in_container.temp / "echoself-packages"
    assert not list(packages.iterdir())

    exported = in_container.run({"mode": "deploy", "formats": "gguf, onnx"} | publish)
    assert exported.code == 0, exported.log
    assert "formats: gguf, onnx: installing flatbuffers==" in exported.log
    git = ["git", "-c", "safe.directory=*", "--git-dir", in_container.workspace / "hub/models/me/model.git"]
    files = subprocess.run([*git, "ls-tree", "-r", "--name-only", "main"], capture_output=True, text=True, check=True).stdout
    assert {"model-Q8_0.gguf", "Modelfile", "onnx/model.onnx"} <= set(files.split())

    shutil.rmtree(packages)
    offline = in_container.run(
        {"mode": "deploy", "formats": "onnx"} | publish,
        PIP_INDEX_URL="http://127.0.0.1:1/",
        PIP_EXTRA_INDEX_URL="http://127.0.0.1:1/",
    )
    assert offline.code == 2
    assert "formats: onnx needs packages that can't be installed here (Connection refused)" in offline.summary
    assert "or to an index in PIP_INDEX_URL" in offline.summary


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Debian's docker-registry on loopback: the address of an empty registry."""
    program = shutil.which("docker-registry")
    if not program:
        missing = "there is no docker-registry here (apt-get install docker-registry)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "images")}},
        "http": {"addr": address},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [program, "serve", tmp_path / "registry.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0:
                break
        time.sleep(0.1)
    yield address
    process.terminate()
    process.wait()


@container
@pytest.mark.timeout(600)
def test_a_published_image_is_pulled_by_its_digest(in_container: Runner, registry: str) -> None:
    tag = f"{registry}/echoself-action:published"
    subprocess.run(["docker", "tag", os.environ["ECHOSELF_IMAGE"], tag], check=True)
    pushed = subprocess.run(["docker", "push", tag], check=True, capture_output=True, text=True).stdout
    subprocess.run(["docker", "rmi", tag], check=True, capture_output=True)
    digest = re.search(r"digest: (sha256:\w+)", pushed)
    assert digest
    reference = f"{registry}/echoself-action@{digest[1]}"
    job = in_container.run(SMALL | {"mode": "train", "image": reference})
    subprocess.run(["docker", "rmi", reference], check=False, capture_output=True)
    assert job.code == 0, job.log
    assert job.outputs["step"] == "5"
    missing = in_container.run({"mode": "train", "image": f"{registry}/echoself-action:none"})
    assert missing.code == 2
    assert "can't be pulled" in missing.summary


@container
def test_a_release_has_tags_with_the_images_of_both_architectures(registry: str, tmp_path: Path) -> None:
    """The scripts of image.yml, with empty images: no engine builds those of another architecture."""
    subprocess.run(["tar", "--create", "--file", tmp_path / "empty.tar", "--files-from", "/dev/null"], check=True)
    name, version, commit = f"{registry}/owner/name", "1.2.3", "0123abc"
    common = os.environ | {"NAME": name, "VERSION": version, "GITHUB_SHA": commit, "GITHUB_ACTOR": "me", "GITHUB_TOKEN": "x"}
    jobs = yaml.safe_load((ROOT / ".github/workflows/image.yml").read_text())["jobs"]

    def push(job: str, **environment: str) -> dict[str, str]:
        (script,) = [step["run"] for step in jobs[job]["steps"] if step.get("id") == "push"]
        outputs = tmp_path / "outputs"
        outputs.write_text("")
        command = ["bash", "-e", "-c", script]
        subprocess.run(command, env=common | environment | {"GITHUB_OUTPUT": str(outputs)}, check=True, timeout=100)
        return dict(line.split("=") for line in outputs.read_text().splitlines())

    digests: dict[str, str] = {}
    tags = []
    for leg in jobs["image"]["strategy"]["matrix"]["include"]:
        flavor, architecture = leg["flavor"], leg["architecture"]
        tags.append(f"{name}:{version}-{flavor}-{architecture}")
        # otherwise the images of both flavors would be the same
        options = ["--platform", f"linux/{architecture}", "--change", f"ENV FLAVOR={flavor}"]
        subprocess.run(["docker", "import", *options, tmp_path / "empty.tar", tags[-1]], check=True, capture_output=True)
        outputs = push("image", FLAVOR=flavor, ARCHITECTURE=architecture)
        assert outputs == {"digest": outputs["digest"], f"{flavor}_{architecture}": outputs["digest"]}
        digests |= {key: digest for key, digest in outputs.items() if key != "digest"}
    subprocess.run(["docker", "rmi", *tags], check=True, capture_output=True)
    both = {flavor: f"{digests[f'{flavor}_amd64']} {digests[f'{flavor}_arm64']}" for flavor in ("cpu", "cuda")}
    attested = push("index", CPU_IMAGES=both["cpu"], CUDA_IMAGES=both["cuda"])
    for flavor in ("cpu", "cuda"):
        for tag in (version, commit):
            inspect = ["docker", "buildx", "imagetools", "inspect", "--raw", f"{name}:{tag}-{flavor}"]
            raw = subprocess.run(inspect, check=True, capture_output=True).stdout
            assert attested[flavor] == f"sha256:{hashlib.sha256(raw).hexdigest()}"
            found = {one["platform"]["architecture"]: one["digest"] for one in json.loads(raw)["manifests"]}
            assert found == {architecture: digests[f"{flavor}_{architecture}"] for architecture in ("amd64", "arm64")}


@container
@pytest.mark.timeout(600)
def test_without_an_image_the_action_builds_its_own_and_no_layer_of_it_holds_the_token(action: Path, tmp_path: Path) -> None:
    """Runs as the user of the tests: some engines allow only their owner to build."""
    token = "hf_neverSeenAnywhere12345"
    runner = Runner(tmp_path / "runner", action, tmp_path, {}, whole_environment(), {})
    job = runner.start(SMALL | {"mode": "train", "hf_token": token}, HF_TOKEN=token).end(600)
    assert job.code == 0, job.log
    assert "Building the image (cpu)" in job.log
    assert job.outputs["step"] == "5"
    image = (runner.temp / "echoself-image").read_text()
    encoded = base64.b64encode(token.encode()).rstrip(b"=")
    assert found_in_image(image, [token.encode(), encoded, b"echoself_action/__main__.py"]) == [b"echoself_action/__main__.py"]


def found_in_image(image: str, wanted: list[bytes]) -> list[bytes]:
    """Those of `wanted` that the layers, settings or history of an image contain."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
        assert saving.stdout
        found, before = set(), b""
        while block := saving.stdout.read(1 << 24):
            found |= {secret for secret in wanted if secret in before + block}
            before = block[-100:]
    assert saving.returncode == 0
    return [secret for secret in wanted if secret in found]


@container
@pytest.mark.timeout(900)
def test_on_the_host_the_packages_are_installed_once(action: Path, tmp_path: Path) -> None:
    inputs = SMALL | {"mode": "train", "runtime": "host"}
    runner = Runner(tmp_path / "runner", action, tmp_path / "tools", {}, whole_environment(), {})
    first = runner.start(inputs).end(800)
    assert first.code == 0, first.log
    assert "installing the venv" in first.log
    # as in the next job, whose runner downloads the action again
    (action / "echoself_action/native/native.bin").unlink(missing_ok=True)
    second = runner.run(inputs)
    assert (second.code, second.outputs["step"]) == (0, "9"), second.log
    assert "reusing the venv" in second.log
    assert "native kernels disabled" not in runner.run(inputs | WIDER | {"output_dir": "wider"}).log


def whole_environment() -> dict[str, str]:
    """The environment without a runner's variables: it has the settings of pip and of the Docker engine."""
    own = ("GITHUB_", "RUNNER_", "ECHOSELF_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}
