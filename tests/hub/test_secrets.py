import hashlib
import json
from pathlib import Path

import pytest

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.hub.secrets import find_secrets, without_secrets

from .secret_kinds import SECRETS


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_with_its_line_in_text_and_in_json(kind: str) -> None:
    secret = SECRETS[kind]
    assert [find.line for find in find_secrets(f"first\nsecond {secret} and more\nthird\n")] == [2]
    assert [find.line for find in find_secrets(json.dumps({"one": 1, "key": secret}, indent=2))] == [3]


def test_secrets_are_removed_from_a_sample() -> None:
    for secret in SECRETS.values():
        output = without_secrets(f"The key is {secret}\nand that was it.")
        assert secret not in output
        assert "left out" in output
        assert output.endswith("and that was it.")
    assert without_secrets("The cat sat.") == "The cat sat."


def test_digests_commits_and_generated_files_are_not_reported_as_secrets(model_folder: ModelFolder) -> None:
    digests = [hashlib.new(name, b"x", usedforsecurity=False).hexdigest() for name in ("md5", "sha1", "sha256", "sha512")]
    assert find_secrets(json.dumps({"weights_sha256": digests, "commit": digests[1], "key": digests[2]})) == []
    for file in model_folder.path.rglob("*.json"):
        assert find_secrets(file.read_text()) == [], file


def test_a_vocabulary_is_not_reported_as_a_secret_and_is_scanned_quickly(shared: Path, tmp_path: Path) -> None:
    make_tokenizer("gpt2", lambda: iter(())).save(tmp_path)
    assert find_secrets((tmp_path / "tokenizer.json").read_text()) == []


def test_a_false_positive_can_be_allowed_on_its_own_line() -> None:
    url = SECRETS["url with a password"]
    assert find_secrets(f"{url} <!-- pragma: allowlist secret -->\n") == []
    assert [find.line for find in find_secrets(f"{url} <!-- pragma: allowlist secret -->\n{url}\n")] == [2]
