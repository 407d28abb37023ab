"""Real text and GPT-2's vocabulary, from the folder `shared` beside the repository."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shakespeare_file(shared: Path) -> Path:
    return shared / "corpora/tinyshakespeare.txt"


@pytest.fixture(scope="session")
def shakespeare(shakespeare_file: Path) -> str:
    return shakespeare_file.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def chat_files(shared: Path) -> list[Path]:
    return sorted((shared / "corpora/echoself").glob("*.jsonl"))


@pytest.fixture
def gpt2_vocabulary(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(shared / "tiktoken"))
