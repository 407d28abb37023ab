"""Checks the model files of a pull request, in a separate process without a token and without network access.

`python -m echoself_action.reviewing.worker FOLDER PUBLISHED GATE COMMIT ANSWER` writes the results to ANSWER as JSON, after
every check. If a file crashes the process, the results so far are kept and the other pull requests are checked.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers

from .. import evaluation
from ..checkpoint.metadata import parity_text
from ..checkpoint.model_folder import (
    CONFIG_FILE,
    GENERATION_FILE,
    TOKENIZER_FILES,
    ModelFolder,
    check_weights,
    read_model_folder,
)
from ..corpus.make_tokenizer import load_tokenizer
from ..corpus.tokenizer import Tokenizer
from ..errors import CheckpointError, EchoselfError
from ..evaluation.gate import Verdict, is_relative, judge_difference, judge_measured
from ..evaluation.held_out import read_held_out
from ..hub.provenance import verify_files
from .comment import CHECKS, Check
from .proposed_exports import check_proposed_exports

if TYPE_CHECKING:
    from ..evaluation.paired_bootstrap import Ids

_CODE = ("auto_map", "custom_pipelines")  # keys that name code, which transformers would download and run
_SHOWN = 3  # texts that are also encoded with transformers
_SPLIT = 8  # bytes by which a text can grow when its first character loses a byte, which decodes to U+FFFD


def run_checks(folder: Path, published: Path, gate: str, against: str) -> Iterator[Check]:
    """Run the checks of `folder` up to the first that fails. `published`: the model of commit `against`, with held-out text."""
    windows = read_held_out(published)
    assert windows
    steps: tuple[Callable[[], str | Verdict], ...] = (
        lambda: _check_model_files(folder),
        lambda: _check_tokenizer(folder, load_tokenizer(published), windows),
        lambda: _check_parity(folder),
        lambda: _check_gate(folder, read_model_folder(published), windows, gate, against),
    )
    for name, step in zip(CHECKS, steps, strict=True):
        try:
            found = step()
        except EchoselfError as error:
            yield Check(name, False, error.message.replace(f"{folder}/", "").replace(str(folder), "the model folder"))
            return
        yield Check(name, found.passed, found.reason) if isinstance(found, Verdict) else Check(name, True, found)


def _check_model_files(folder: Path) -> str:
    model = read_model_folder(folder)
    check_weights(model)
    verify_files(folder, "the pull request", required=False, say=lambda _: None)  # as every pull does after a merge
    for name in (CONFIG_FILE, GENERATION_FILE, *TOKENIZER_FILES):
        values = _json(folder / name)
        code_keys = [key for key in _CODE if values.get(key) and (key, name) != ("auto_map", CONFIG_FILE)]
        if name == CONFIG_FILE and not model.architecture.code_files and values.get("auto_map"):
            code_keys.append("auto_map")  # with code: compared when the config was read
        if code_keys:
            raise CheckpointError(f"{name} names code to load with the model: {', '.join(code_keys)}. It was not used.")
    config = model.config
    return f"{model.architecture.name}, {config.n_layer} layers, width {config.n_embd}, {config.vocab_size:,} token ids"


def _check_tokenizer(folder: Path, published: Tokenizer, windows: "list[Ids]") -> str:
    """It must be the published tokenizer, or round-trip every held-out text, so that bits per byte are comparable."""
    ours = load_tokenizer(folder)
    model = read_model_folder(folder)
    texts = [published.decode(int(i) for i in window if i != published.end_of_text_id) for window in windows]
    encoded = ours.encode_batch(texts)
    if any(max(ids, default=0) >= model.config.vocab_size for ids in encoded):
        raise CheckpointError("tokenizer.json has token ids outside of the vocabulary of the model. It was not used.")
    changed = sum(not _round_trips(ours, text, list(ids)) for text, ids in zip(texts, encoded, strict=True))
    if ours.digest != published.digest and changed:
        raise CheckpointError(
            f"tokenizer.json does not round-trip {changed} of {len(texts)} held-out texts, so their losses are not comparable. "
            "It was not used."
        )
    try:
        stock: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        same = [list(ids) for ids in stock(texts[:_SHOWN], add_special_tokens=False)["input_ids"]]
    except Exception as error:  # a tokenizer_config.json may ask transformers for anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise CheckpointError(f"transformers can't load the tokenizer: {reason}. It was not used.") from error
    if same != [list(ids) for ids in encoded[:_SHOWN]]:
        raise CheckpointError("transformers encodes text to other ids than tokenizer.json. It was not used.")
    return f"{ours.name}, the published one" if ours.digest == published.digest else f"{ours.name}, not the published one"


def _round_trips(tokenizer: Tokenizer, text: str, ids: list[int]) -> bool:
    """Also without the first token: it is not predicted, and the loss is divided by the bytes of the rest."""
    rest = len(tokenizer.decode(ids[1:]).encode("utf-8", "replace"))
    return tokenizer.decode(ids) == text and rest <= len(text.encode("utf-8", "replace")) + _SPLIT


def _check_parity(folder: Path) -> str:
    model = read_model_folder(folder)
    return parity_text(evaluation.check_parity(model)) + check_proposed_exports(model)


def _check_gate(folder: Path, published: ModelFolder, windows: "list[Ids]", gate: str, against: str) -> Verdict:
    """The gate, with losses that are measured here: those in the metadata of a pull request are untrusted."""
    if gate == "none":
        return judge_measured(gate, 0)
    tokenizer = load_tokenizer(published.path)
    proposed = evaluation.score(evaluation.load_language_model(read_model_folder(folder)), windows, tokenizer)
    if not is_relative(gate):
        return judge_measured(gate, proposed.loss)
    before = evaluation.score(evaluation.load_language_model(published), windows, tokenizer)
    return judge_difference(gate, evaluation.difference(proposed, before), against)


def _json(path: Path) -> dict[str, Any]:
    """Empty if the file does not exist. Raises CheckpointError unless it contains a JSON object."""
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}. It was not used.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object. It was not used.")
    return values


if __name__ == "__main__":
    folder, published, gate, against, answer = sys.argv[1:]
    found: list[dict[str, Any]] = []
    for check in run_checks(Path(folder), Path(published), gate, against):
        found.append(asdict(check))
        Path(answer).write_text(json.dumps(found), encoding="utf-8")
