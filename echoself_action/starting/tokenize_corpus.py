"""The corpus that the inputs name, as tokens of the model that is to learn from it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import tokenizers

from ..checkpoint.atomic import new_folder
from ..checkpoint.model_folder import WEIGHTS_FILE, ModelFolder
from ..config.inputs import Inputs
from ..corpus.globs import find_files
from ..corpus.readers import read_documents
from ..corpus.token_cache import corpus_digest, prepare_tokens
from ..corpus.tokenizer import Tokenizer, load_tokenizer, make_tokenizer
from ..corpus.tokens import Tokens, require_block
from ..errors import CheckpointError, InputError
from ..hub.client import open_hub
from ..hub.dataset_repo import fetch_dataset
from ..hub.repo_id import SCHEME
from ..report.log import note, warn

TOKEN_CACHE, DATASET_CACHE = Path(".echoself/tokens"), Path(".echoself/datasets")


def corpus_tokens(inputs: Inputs, start: ModelFolder | None) -> Tokens:
    """Tokens of `data`, in the ids of the model that goes on from `start`, or of the tokenizer that is asked for.

    Raises InputError where the corpus is missing, not what it says, too small, or asked for in other ids than `start`'s.
    """
    files = corpus_files(inputs)
    tokenizer = _tokenizer(inputs, start, files)
    tokens = prepare_tokens(files, tokenizer, TOKEN_CACHE, inputs.val_fraction, inputs.on_bad_file, warn)
    require_block(tokens, start.config.block_size if start else inputs.size("block_size"))
    made = ", made before" if tokens.reused else ""
    note(
        f"{len(files)} files, {tokens.documents:,} documents, tokenizer {tokenizer.name}: {len(tokens.train):,} tokens to "
        f"learn from, {len(tokens.val):,} held out{made}"
    )
    return tokens


def corpus_files(inputs: Inputs) -> list[Path]:
    """The files that `data` names, those of datasets fetched from the Hub.

    Raises InputError where a pattern matches none, HubError where a dataset can't be had.
    """
    sources = [one for one in inputs.data if one.startswith(SCHEME)]
    patterns = [one for one in inputs.data if one not in sources]
    found = find_files([*patterns, f"!{inputs.output_dir}/**"], Path.cwd()) if patterns else []
    # a model folder has a README of its own, and no model is to be trained on its card
    files = [path for path in found if not (path.parent / WEIGHTS_FILE).exists()]
    if sources:
        with open_hub(inputs.hub, inputs.token, note) as hub:
            files += [path for source in sources for path in fetch_dataset(hub, source, DATASET_CACHE)]
    return files


def _tokenizer(inputs: Inputs, start: ModelFolder | None, files: list[Path]) -> Tokenizer:
    if start is None:
        spec = inputs.tokenizer or "gpt2"
        return _trained_once(spec, inputs, files) if spec.startswith("bpe:") else make_tokenizer(spec, _texts(inputs, files))
    tokenizer = load_tokenizer(start.path)
    wanted = inputs.tokenizer or tokenizer.name
    # `bpe:<size>` means the one that was trained for this model: the same size from a grown corpus is another tokenizer
    same = wanted == tokenizer.name or (
        wanted.endswith((".json", ".pkl")) and make_tokenizer(wanted, _texts(inputs, files)).digest == tokenizer.digest
    )
    if not same:
        raise InputError(
            f"tokenizer: {wanted} was given, and {start.path} was trained with {tokenizer.name}. Nothing was trained.",
            "Leave tokenizer out, or start fresh with resume: never and confirm_fresh_start: true.",
        )
    return tokenizer


def _trained_once(spec: str, inputs: Inputs, files: list[Path]) -> Tokenizer:
    """The tokenizer that is trained on `files`, or was, when they held the same. It is kept beside their tokens."""
    digest = corpus_digest(files, f"{spec} by tokenizers {tokenizers.__version__}", 0)
    folder = TOKEN_CACHE / f"tokenizer-{digest[:16]}"
    try:
        tokenizer = load_tokenizer(folder)
        tokenizer.name = spec
    except CheckpointError:  # there is none, or half of one
        tokenizer = make_tokenizer(spec, _texts(inputs, files))
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError), new_folder(folder) as written:  # another process was first, or has the disk full
            tokenizer.save(written)
    return tokenizer


def _texts(inputs: Inputs, files: list[Path]) -> Callable[[], Iterator[str]]:
    return lambda: (document.text for document in read_documents(files, inputs.on_bad_file, warn))
