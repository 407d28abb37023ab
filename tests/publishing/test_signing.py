"""Signed models: with a key end to end through the Hub, as a workflow as far as that goes without Sigstore."""

import base64
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from echoself_action.checkpoint.nanecho_config import MODELING_FILE
from echoself_action.hub.client import open_hub
from echoself_action.hub.repo import CODE_FILES, list_repo
from echoself_action.hub.signature import SIGNED

from ..conftest import SMALL, Cli, contents
from ..hub.test_oidc import Runner

REPO = "me/model"
DEPLOY, PULL = f"deploy --hub hub --repo-id {REPO}", f"pull --hub hub --repo-id {REPO}"


def make_key(name: str, curve: ec.EllipticCurve | None = None, password: bytes | None = None) -> tuple[Path, Path]:
    """A private key and its public half, in the current folder."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    private, public = Path(f"{name}.pem"), Path(f"{name}.pub")
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def trained(begun: Cli) -> dict[str, str]:
    return begun(f"train --tokenizer bytes {SMALL}")


def read(name: str) -> bytes:
    with open_hub("hub", None) as hub:
        return Path(hub.api.hf_hub_download(REPO, name)).read_bytes()


def change(*operations: CommitOperationAdd | CommitOperationDelete) -> None:
    with open_hub("hub", None) as hub:
        hub.api.create_commit(REPO, operations, commit_message="By hand")


def signed_names() -> set[str]:
    payload = json.loads(base64.b64decode(json.loads(read("model.sig"))["dsseEnvelope"]["payload"]))
    return {one["name"] for one in payload["predicate"]["resources"]}


def test_a_signed_model_is_verified_with_the_public_key_and_signing_it_again_makes_no_commit(
    echoself: Cli, trained: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    key, public = make_key("ours")
    first = echoself(DEPLOY, f"--sign {key}")
    assert first["deployed"] == "true"
    model = {path.name for path in Path(trained["model_dir"]).iterdir()} & set(SIGNED)
    assert signed_names() == model | {"provenance.json"}
    again = echoself(DEPLOY, f"--sign {key}")
    assert (again["deployed"], again["commit_sha"]) == ("false", first["commit_sha"])
    for verify in ("auto", "require"):
        pulled = echoself(PULL, f"--signer {public} --verify {verify} --output-dir {verify}")
        assert (Path(pulled["model_dir"]) / "model.sig").read_bytes() == read("model.sig")
    logged = capfd.readouterr()
    assert "signed by ours.pub" in logged.out
    secret = key.read_text().splitlines()[1]
    assert secret not in logged.out + logged.err
    echoself(PULL, "--output-dir plain")
    assert "model.sig was not checked: set signer" in capfd.readouterr().out
    assert secret.encode() not in b"".join(path.read_bytes() for path in Path("hub").rglob("*") if path.is_file())


def test_the_signature_is_in_the_format_of_model_signing(echoself: Cli, trained: dict[str, str]) -> None:
    key, public = make_key("ours", ec.SECP384R1())
    echoself(DEPLOY, f"--sign {key}")
    with open_hub("hub", None) as hub:
        snapshot = hub.api.snapshot_download(REPO, local_dir="snapshot")
    command = [sys.executable, "-m", "model_signing", "verify", "key", snapshot, "--signature", f"{snapshot}/model.sig"]
    command += ["--public_key", str(public), "--ignore_unsigned_files"]
    logged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert logged.returncode == 0, logged.stdout + logged.stderr
    assert "Verification succeeded" in logged.stdout


def test_signing_a_published_model_adds_a_signature_and_a_new_key_replaces_it(echoself: Cli, trained: dict[str, str]) -> None:
    plain = echoself(DEPLOY)
    first_key, _ = make_key("first")
    signed = echoself(DEPLOY, f"--sign {first_key}")
    assert signed["deployed"] == "true"
    with open_hub("hub", None) as hub:
        before, after = (
            {path: file.blob_id for path, file in list_repo(hub, REPO, commit).files.items()}
            for commit in (plain["commit_sha"], signed["commit_sha"])
        )
    assert {name for name in after if before.get(name) != after[name]} == {"model.sig"}
    second_key, second_public = make_key("second")
    assert echoself(DEPLOY, f"--sign {second_key}")["deployed"] == "true"
    echoself(PULL, f"--signer {second_public} --output-dir pulled")
    change(CommitOperationAdd("model.sig", b"{}"))
    assert echoself(DEPLOY, f"--sign {second_key}")["deployed"] == "true"  # a broken one is made anew
    echoself(PULL, f"--signer {second_public} --output-dir again")


def test_each_invalid_signature_has_its_own_message_and_leaves_nothing_behind(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    key, public = make_key("ours")
    _, others = make_key("others")

    def refused(message: str, more: str = f"--signer {public}") -> None:
        echoself(PULL, more, "--output-dir out", code=3)
        assert message in capsys.readouterr().err
        assert not contents(Path("out"))

    echoself(DEPLOY)
    refused("has no model.sig, which signer requires. Nothing was kept.")
    echoself(DEPLOY, f"--sign {key}")
    refused("is not signed by others.pub: its model.sig is not a valid signature", f"--signer {others}")
    good = {name: read(name) for name in ("model.sig", "tokenizer_config.json", "provenance.json", "training_metadata.json")}

    tampered = good["tokenizer_config.json"].replace(b"{", b"{ ", 1)
    change(CommitOperationAdd("tokenizer_config.json", tampered))
    refused("does not match its signature: tokenizer_config.json was changed, added or removed")
    provenance = json.loads(good["provenance.json"])
    provenance["files"]["tokenizer_config.json"] = {"sha256": hashlib.sha256(tampered).hexdigest(), "size": len(tampered)}
    change(CommitOperationAdd("provenance.json", json.dumps(provenance).encode()))
    echoself(PULL, "--verify require --output-dir fooled")  # who may write to the repo rewrites both; the signature holds
    refused("does not match its signature: provenance.json, tokenizer_config.json was changed")
    change(*(CommitOperationAdd(name, content) for name, content in good.items()))
    change(CommitOperationAdd("modeling_nanecho.py", b"import os"))
    refused("does not match its signature: modeling_nanecho.py was changed, added")
    change(CommitOperationDelete("modeling_nanecho.py"), CommitOperationDelete("generation_config.json"))
    refused("does not match its signature: generation_config.json was changed")

    forged = json.loads(good["model.sig"])
    forged["dsseEnvelope"]["signatures"][0]["sig"] = "MEUCIQ" + "A" * 90
    for broken, message in (
        (json.dumps(forged).encode(), "is not signed by ours.pub"),
        (b"<html>", "can't be read (JSONDecodeError)"),
        (b"{}", "can't be read (KeyError)"),
        (good["model.sig"][:-50], "can't be read"),
        (b"\xff" * 100, "can't be read (UnicodeDecodeError)"),
    ):
        change(CommitOperationAdd("model.sig", broken))
        refused(message)


def test_publishing_unsigned_over_a_signed_model_warns(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    key, public = make_key("ours")
    echoself(DEPLOY, f"--sign {key}")
    echoself(f"train --tokenizer bytes {SMALL}")
    capsys.readouterr()
    echoself(DEPLOY, "--gate none")
    assert "has a model.sig that will not match the new files" in capsys.readouterr().out
    echoself(PULL, f"--signer {public} --output-dir out", code=3)


def test_keys_that_cant_be_used_are_refused_before_any_work_and_never_shown(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, public = make_key("good")
    make_key("odd", ec.SECP256K1())
    make_key("locked", password=b"secret")
    edwards = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Path("edwards.pem").write_bytes(edwards)
    Path("junk.pem").write_text("hf_not_a_key_but_a_secret")
    for name in ("odd.pem", "locked.pem", "edwards.pem", "junk.pem", "good.pub"):
        echoself(DEPLOY, f"--sign {name}", code=2)
        message = capsys.readouterr().err
        assert f"sign: {name} can't be used as a private key" in message
        assert Path(name).read_text().splitlines()[-2:][0] not in message
    for name in ("junk.pem", "good.pem", "odd.pub"):
        echoself(PULL, f"--signer {name}", code=2)
        assert f"signer: {name} can't be used as a public key" in capsys.readouterr().err
    for words in (f"{DEPLOY} --sign none.pem", f"{PULL} --signer none.pub", f"{PULL} --signer {public} --verify off"):
        echoself(words, code=2)
    with open_hub("hub", None) as hub:
        assert not hub.api.repo_exists(REPO)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A job on GitHub that may ask for an id token; no Sigstore can be reached."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Runner)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"http://127.0.0.1:{server.server_port}/token?api=1")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token")
    for name in ("HTTPS_PROXY", "https_proxy"):  # nothing answers there
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    yield
    server.shutdown()
    server.server_close()


def test_sign_auto_without_an_id_token_publishes_unsigned_and_reports_why(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_URL", raising=False)
    assert echoself(DEPLOY, "--sign auto")["deployed"] == "true"
    logged = capsys.readouterr().out
    assert "this job has no permission for an id token: it needs permissions: id-token: write. Publishing without" in logged
    assert echoself(DEPLOY, "--sign auto")["deployed"] == "false"


def test_if_sigstore_is_unreachable_sign_auto_publishes_and_a_pull_with_a_workflow_as_signer_fails(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str], runner: None
) -> None:
    assert echoself(DEPLOY, "--sign auto")["deployed"] == "true"
    logged = capsys.readouterr()
    assert "Sigstore can't be reached" in logged.out, logged.out
    assert "eyJ" not in logged.out + logged.err  # how every id token begins
    echoself(PULL, "--signer https://github.com/o/r/.github/workflows/w.yml@refs/heads/main", code=4)
    assert "Sigstore's keys can't be downloaded" in capsys.readouterr().err
    assert not list(Path("echoself-model").glob("*incoming*"))


def test_if_github_refuses_the_id_token_the_warning_gives_the_reason(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str], runner: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "another")
    assert echoself(DEPLOY, "--sign auto")["deployed"] == "true"
    assert "GitHub did not issue an id token for Sigstore" in capsys.readouterr().out


def test_a_dry_run_signs_nothing(echoself: Cli, trained: dict[str, str]) -> None:
    key, _ = make_key("ours")
    echoself(DEPLOY, f"--sign {key} --dry-run")
    with open_hub("hub", None) as hub:
        assert not hub.api.repo_exists(REPO)


def test_sign_without_model_signing_reports_how_to_install_it(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, public = make_key("ours")
    monkeypatch.setitem(sys.modules, "model_signing", None)  # as Python sees what is not installed
    echoself(DEPLOY, f"--sign {key}", code=2)
    assert "sign: model-signing is not installed." in capsys.readouterr().err
    echoself(PULL, f"--signer {public}", code=2)
    assert "signer: model-signing is not installed." in capsys.readouterr().err
    assert echoself(DEPLOY, "--sign auto")["deployed"] == "true"
    assert "model-signing is not installed; the action installs it with runtime: host" in capsys.readouterr().out


def test_the_names_and_version_of_model_signing_match_pyproject() -> None:
    assert CODE_FILES == (MODELING_FILE,)
    pinned = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name in ("model-signing", "pyOpenSSL"):
        assert f'"{name}=={importlib.metadata.version(name)}"' in pinned
