"""Checks a folder that has `pytorch_model.bin` but no `model.safetensors`: what is wrong with it, and what can be recovered?

transformers loads nearly anything: it initializes missing tensors randomly, and a transposed square matrix has the right shape.
EchoSelf's converter published such models. So the pickle is read, without running code in it, and compared with its config.
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
from .gpt2_tensors import stored_as_linear, tensors_by_gpt2_name
from .imported_model import HEAD
from .recorded_config import read_json
from .torch_file.reader import TorchFile, read_torch_file

_MOST_LAYERS = 1000  # that are listed although the file does not have them


@dataclass(frozen=True)
class _Finding:
    """What is wrong, and what can be recovered."""

    problems: list[str]
    advice: str


def diagnose_pickled_folder(folder: Path, name: str, first: str = "", saved: str = "", tokenizer: str | None = None) -> Path:
    """The path of the pickle in `folder`, if it is a complete stock GPT-2 with its vocabulary (or the user's `tokenizer`).

    `name` is the name of the folder in messages; `first` is a command that downloads it to `saved`. Raises CheckpointError,
    with a diagnosis and what can be recovered, if the model is not complete.
    """
    path, saved = folder / PICKLE_FILE, saved or str(folder)
    file = read_torch_file(path)
    config = read_json(folder / CONFIG_FILE)
    found = _incomplete(file, config, folder) or _untransposed(file, config, folder, first, saved)
    problems = found.problems if found else []
    empty = None if tokenizer and not found else _vocabulary_problem(folder)
    if empty:
        problems = [*problems, empty]
    if not problems:
        return path
    if found and (config.get("bos_token_id"), config.get("eos_token_id")) == (0, 0):
        problems.append("its config.json sets bos_token_id and eos_token_id to 0, so text generation stops at token 0")
    advice = found.advice if found else f"The weights are complete. Give its tokenizer: {_command(first, saved, 'gpt2')}"
    if first:  # it is on the Hub, and training would resume from it
        advice += " To train a new model in its place, set resume: never and confirm_fresh_start: true."
    raise CheckpointError(f"{name} can't be used as a model: {'; '.join(problems)}. Nothing was imported.", advice)


def _incomplete(file: TorchFile, config: Mapping[str, Any], folder: Path) -> _Finding | None:
    """The diagnosis if tensors are missing that the config describes."""
    stored, sizes = tensors_by_gpt2_name(file), read_config(folder / CONFIG_FILE, config)
    if sizes.n_layer > max(len(stored), _MOST_LAYERS):  # before the shapes are computed
        file.refuse(f"has {len(stored):,} tensors, and its {CONFIG_FILE} describes {sizes.n_layer:,} layers")
    described = shapes(sizes)
    if HEAD in stored:
        stored.setdefault(TOKENS, stored.pop(HEAD))  # they are tied
    missing = [name for name in described if name not in stored]
    if not missing:
        return None
    count, there = len(described), [name for name in described if name in stored]
    kept = f"{len(there)} of the {count} tensors that its config.json describes"
    problem = (
        f"its {PICKLE_FILE} contains {kept} ({', '.join(list(file.weights)[:3])[:200]}), and transformers would initialize the "
        f"other {len(missing)} randomly"
    )
    origin = read_json(folder / METADATA_FILE).get("checkpoint_id")
    source = f" (checkpoint {origin!r:.100} according to its {METADATA_FILE})" if isinstance(origin, str) else ""
    recoverable = "Only the token embedding" if there in ([TOKENS], []) else "No complete model"
    return _Finding(
        [problem],
        f"{recoverable} can be recovered from it. Set checkpoint to the .pt file that it was converted from{source}.",
    )


def _untransposed(file: TorchFile, config: Mapping[str, Any], folder: Path, first: str, saved: str) -> _Finding | None:
    """The diagnosis if all tensors are present, but the matrices are stored as in nn.Linear."""
    if not stored_as_linear(file, tensors_by_gpt2_name(file)):
        return None
    problems = [
        f"the matrices in its {PICKLE_FILE} are stored as in nn.Linear, but transformers expects them transposed: it rejects "
        "those with another shape, and loads the square ones (attn.c_proj) silently wrong"
    ]
    if "activation_function" not in config:
        problems.append(
            "its config.json does not set the exact GELU that it was trained with, so transformers uses another activation"
        )
    trained = read_json(folder / METADATA_FILE)
    trained = trained["model_config"] if isinstance(trained.get("model_config"), dict) else trained
    heads = trained.get("n_head")
    if isinstance(heads, int) and heads != config.get("n_head"):
        problems.append(f"its config.json has n_head={config.get('n_head')}, but its {METADATA_FILE} has n_head={heads}")
    return _Finding(
        problems,
        f"All weights are present and can be recovered: {_command(first, saved)} (with "
        "--tokenizer, if its tokenizer is known).",
    )


def _vocabulary_problem(folder: Path) -> str | None:
    if not (folder / TOKENIZER_FILE).is_file():
        return (
            f"it has no vocabulary (no {TOKENIZER_FILE}): AutoTokenizer loads with 0 tokens and encodes every text to no tokens"
        )
    written = read_json(folder / TOKENIZER_FILE)
    model = written.get("model")
    if isinstance(model, dict) and not model.get("vocab") and not written.get("added_tokens"):
        return f"its {TOKENIZER_FILE} has 0 tokens: it encodes every text to no tokens"
    return None


def _command(first: str, saved: str, tokenizer: str | None = None) -> str:
    """A command line that publishes a model converted from the pickle in `saved`."""
    words = [f"echoself deploy --checkpoint {saved}/{PICKLE_FILE} --repo-id YOU/YOUR-MODEL"]
    words += [f"--tokenizer {tokenizer}"] if tokenizer else []
    return f"`{' '.join(([first, '&&'] if first else []) + words)}`"
