"""What is wrong with a folder that has `pytorch_model.bin` and no `model.safetensors`, and what of it can be saved?

transformers loads nearly anything: it fills missing tensors with random numbers, and square matrices fit both ways round. The
converter of EchoSelf published such models. So the pickle is read, with nothing in it run, and held to its config.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.gpt2_config import TOKENS, read_config, shapes
from ..checkpoint.metadata import METADATA_FILE
from ..checkpoint.model_folder import CONFIG_FILE, PICKLE_FILE
from ..checkpoint.vocabulary import TOKENIZER_FILE
from ..errors import CheckpointError
from .gpt2_tensors import gpt2_names, is_turned
from .imported_model import HEAD
from .recorded_config import read_json
from .torch_file.reader import TorchFile, read_torch_file


@dataclass(frozen=True)
class _Finding:
    """What is wrong, and what can be saved."""

    problems: list[str]
    advice: str


def diagnose_pickled_folder(folder: Path, name: str, first: str = "", saved: str = "", tokenizer: str | None = None) -> Path:
    """The pickle in `folder`, if it is the whole of a stock GPT-2 with its vocabulary (or with `tokenizer`, the user's).

    `name` is what a message calls the folder; `first` a command that puts it on the reader's disk, at `saved`. Raises
    CheckpointError where the model is no whole one, saying what is wrong with it and what can be saved.
    """
    path, saved = folder / PICKLE_FILE, saved or str(folder)
    foreign = read_torch_file(path)
    config = read_json(folder / CONFIG_FILE)
    found = _incomplete(foreign, config, folder) or _untransposed(foreign, config, folder, first, saved)
    problems = found.problems if found else []
    empty = None if tokenizer and not found else _vocabulary_problem(folder)
    if empty:
        problems = [*problems, empty]
    if not problems:
        return path
    if found and (config.get("bos_token_id"), config.get("eos_token_id")) == (0, 0):
        problems.append("its config.json calls token 0 both begin and end of text, and text generation stops at it")
    advice = found.advice if found else f"The weights are whole. Give its vocabulary: {_command(first, saved, 'gpt2')}"
    if first:  # it lies on the Hub, where training would go on from it
        advice += " To train a new model in its place, use resume: never and confirm_fresh_start: true."
    raise CheckpointError(f"{name} can't be used as a model: {'; '.join(problems)}. Nothing was imported.", advice)


def _incomplete(foreign: TorchFile, config: Mapping[str, Any], folder: Path) -> _Finding | None:
    """Tensors that the config describes and the file lacks."""
    described = shapes(read_config(folder / CONFIG_FILE, config))
    stored = gpt2_names(foreign)
    if HEAD in stored:
        stored.setdefault(TOKENS, stored.pop(HEAD))  # the one is tied to the other
    missing = [name for name in described if name not in stored]
    if not missing:
        return None
    count, there = len(described), [name for name in described if name in stored]
    kept = f"{len(there)} of the {count} tensors that its config.json describes"
    problem = (
        f"its {PICKLE_FILE} holds {kept} ({', '.join(list(foreign.weights)[:3])[:200]}), and transformers would fill the other "
        f"{len(missing)} with random numbers"
    )
    origin = read_json(folder / METADATA_FILE).get("checkpoint_id")
    source = f" (checkpoint {origin!r:.100}, says its {METADATA_FILE})" if isinstance(origin, str) else ""
    held = "nothing but the token embedding" if there in ([TOKENS], []) else "no model"
    return _Finding(
        [problem],
        f"There is {held} to save in it. Go back to the .pt file that it was made from{source}, and give that as `checkpoint`.",
    )


def _untransposed(foreign: TorchFile, config: Mapping[str, Any], folder: Path, first: str, saved: str) -> _Finding | None:
    """All tensors, and the matrices as nn.Linear keeps them."""
    if not is_turned(foreign, gpt2_names(foreign)):
        return None
    problems = [
        f"the matrices in its {PICKLE_FILE} lie as nn.Linear keeps them, and transformers wants them transposed: it refuses "
        "those that do not fit, and loads the square ones (attn.c_proj) silently wrong"
    ]
    if "activation_function" not in config:
        problems.append("its config.json leaves out the exact GELU that it was trained with, so transformers computes another")
    trained = read_json(folder / METADATA_FILE)
    trained = trained["model_config"] if isinstance(trained.get("model_config"), dict) else trained
    heads = trained.get("n_head")
    if isinstance(heads, int) and heads != config.get("n_head"):
        problems.append(f"its config.json says n_head={config.get('n_head')}, and its {METADATA_FILE} n_head={heads}")
    return _Finding(
        problems,
        f"All its weights are there, and can be saved: {_command(first, saved)} (with "
        "--tokenizer, if it is known what it was trained with).",
    )


def _vocabulary_problem(folder: Path) -> str | None:
    if not (folder / TOKENIZER_FILE).is_file():
        return (
            f"it has no vocabulary (no {TOKENIZER_FILE}): AutoTokenizer loads with 0 tokens and encodes every text to nothing"
        )
    written = read_json(folder / TOKENIZER_FILE)
    model = written.get("model")
    if isinstance(model, dict) and not model.get("vocab") and not written.get("added_tokens"):
        return f"its {TOKENIZER_FILE} has 0 tokens: it encodes every text to nothing"
    return None


def _command(first: str, saved: str, tokenizer: str | None = None) -> str:
    """A command line that makes a model of the pickle at `saved`."""
    words = [f"echoself deploy --checkpoint {saved}/{PICKLE_FILE} --repo-id YOU/YOUR-MODEL"]
    words += [f"--tokenizer {tokenizer}"] if tokenizer else []
    return f"`{' '.join(([first, '&&'] if first else []) + words)}`"
