"""Is this folder, from a stranger, the model that it says it is, and good enough? Asked in a process of its own.

`python -m echoself_action.reviewing.worker FOLDER PUBLISHED GATE ANSWER` writes the answer, one check after the other, as JSON.
The process has no token, no network use, and nothing to lose: whatever a file makes of it, others are checked all the same.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import evaluation
from ..checkpoint.metadata import in_words
from ..checkpoint.model_folder import (
    CONFIG_FILE,
    GENERATION_FILE,
    TOKENIZER_FILES,
    ModelFolder,
    check_weights,
    read_model_folder,
)
from ..corpus.tokenizer import Tokenizer, load_tokenizer
from ..errors import CheckpointError, EchoselfError
from ..evaluation.gate import Verdict, is_relative, judge_difference, judge_measured
from ..evaluation.held_out import read_held_out
from ..hub.provenance import verify_files
from .comment import CHECKS, Check

if TYPE_CHECKING:
    from ..evaluation.paired_bootstrap import Ids

_CODE = ("auto_map", "custom_pipelines")  # where a config names code that transformers would fetch and run
_SHOWN = 3  # texts that transformers reads as well
_SPLIT = 8  # bytes that a character takes more once its first byte is gone


def examine(folder: Path, published: Path, gate: str, against: str) -> Iterator[Check]:
    """Every check of `folder` up to the first that fails. `published`: the model of commit `against`, with held-out text."""
    windows = read_held_out(published)
    assert windows
    steps: tuple[Callable[[], str | Verdict], ...] = (
        lambda: _whole(folder),
        lambda: _speaks(folder, load_tokenizer(published), windows),
        lambda: _same_logits(folder),
        lambda: _good_enough(folder, read_model_folder(published), windows, gate, against),
    )
    for name, step in zip(CHECKS, steps, strict=True):
        try:
            found = step()
        except EchoselfError as error:
            yield Check(name, False, error.message.replace(f"{folder}/", "").replace(str(folder), "it"))
            return
        yield Check(name, found.passed, found.reason) if isinstance(found, Verdict) else Check(name, True, found)


def _whole(folder: Path) -> str:
    model = read_model_folder(folder)
    check_weights(model)
    verify_files(folder, "it", required=False, say=lambda _: None)  # after a merge every pull will
    for name in (CONFIG_FILE, GENERATION_FILE, *TOKENIZER_FILES):
        values = _json(folder / name)
        named = [key for key in _CODE if values.get(key) and (key, name) != ("auto_map", CONFIG_FILE)]
        if name == CONFIG_FILE and not model.architecture.code_files and values.get("auto_map"):
            named.append("auto_map")  # that of an architecture with code was compared when the config was read
        if named:
            raise CheckpointError(f"{name} names code to be loaded with the model: {', '.join(named)}. It was not used.")
    config = model.config
    return f"{model.architecture.name}, {config.n_layer} layers, width {config.n_embd}, {config.vocab_size:,} token ids"


def _speaks(folder: Path, published: Tokenizer, windows: "list[Ids]") -> str:
    """The tokenizer is the published one, or one that gives back every held-out text whole, so that bytes stay bytes."""
    from transformers import AutoTokenizer  # type: ignore[attr-defined,unused-ignore]

    ours = load_tokenizer(folder)
    model = read_model_folder(folder)
    texts = [published.decode(int(i) for i in window if i != published.end_of_text_id) for window in windows]
    encoded = ours.encode_batch(texts)
    if any(max(ids, default=0) >= model.config.vocab_size for ids in encoded):
        raise CheckpointError("tokenizer.json gives token ids that the model has none of. It was not used.")
    changed = sum(not _gives_back(ours, text, list(ids)) for text, ids in zip(texts, encoded, strict=True))
    if ours.digest != published.digest and changed:
        raise CheckpointError(
            f"tokenizer.json does not give back {changed} of {len(texts)} held-out texts as they were, so nothing that the "
            "model makes of them can be compared. It was not used."
        )
    try:
        stock: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        same = [list(ids) for ids in stock(texts[:_SHOWN], add_special_tokens=False)["input_ids"]]
    except Exception as error:  # a tokenizer_config.json may ask transformers for anything
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise CheckpointError(f"transformers does not load the tokenizer: {told}. It was not used.") from error
    if same != [list(ids) for ids in encoded[:_SHOWN]]:
        raise CheckpointError("tokenizer.json and tokenizer_config.json give other ids in transformers. It was not used.")
    return f"{ours.name}, the published one" if ours.digest == published.digest else f"{ours.name}, not the published one"


def _gives_back(tokenizer: Tokenizer, text: str, ids: list[int]) -> bool:
    """Also of a part: nobody predicts the first token, and the bytes of the rest are what a loss is divided by."""
    rest = len(tokenizer.decode(ids[1:]).encode("utf-8", "replace"))
    return tokenizer.decode(ids) == text and rest <= len(text.encode("utf-8", "replace")) + _SPLIT


def _same_logits(folder: Path) -> str:
    return in_words(evaluation.check_parity(read_model_folder(folder)))


def _good_enough(folder: Path, published: ModelFolder, windows: "list[Ids]", gate: str, against: str) -> Verdict:
    """By what is measured here: a stranger's own figures count for nothing."""
    if gate == "none":
        return judge_measured(gate, 0)
    tokenizer = load_tokenizer(published.path)
    theirs = evaluation.read(evaluation.reader_of(read_model_folder(folder)), windows, tokenizer)
    if not is_relative(gate):
        return judge_measured(gate, theirs.loss)
    before = evaluation.read(evaluation.reader_of(published), windows, tokenizer)
    return judge_difference(gate, evaluation.difference(theirs, before), against)


def _json(path: Path) -> dict[str, Any]:
    """Empty where there is no such file. Raises CheckpointError where it is no JSON object."""
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON: {error}. It was not used.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is no JSON object. It was not used.")
    return values


if __name__ == "__main__":
    folder, published, gate, against, answer = sys.argv[1:]
    found: list[dict[str, Any]] = []
    for check in examine(Path(folder), Path(published), gate, against):
        found.append(asdict(check))
        Path(answer).write_text(json.dumps(found), encoding="utf-8")
