"""The corpus that the input `data` selects, tokenized for the model that is trained or evaluated on it."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import tokenizers

from ..checkpoint.atomic import new_folder
from ..checkpoint.metadata import repeated_text
from ..checkpoint.model_folder import ModelFolder
from ..config.inputs import Inputs
from ..corpus.findings import Finding
from ..corpus.leaks import COMMON
from ..corpus.make_tokenizer import is_path, load_tokenizer, make_tokenizer, train_tokenizer
from ..corpus.nanogpt_bin import VOCABULARY, is_token_files, vocabulary_beside
from ..corpus.ppmd import LARGEST
from ..corpus.readers import read_documents
from ..corpus.repeated_windows import MOST_HELD_OUT, MOST_TRAINING
from ..corpus.source_weights import source_name
from ..corpus.split import is_validation
from ..corpus.token_cache import corpus_digest, prepare_tokens
from ..corpus.token_files_metadata import StatedTokenizer, stated_tokenizer
from ..corpus.tokenizer import IDS, Tokenizer, is_given_name
from ..corpus.tokens import Source, Tokens, require_block
from ..errors import CheckpointError, InputError
from ..hub.dataset_repo import dataset_names
from ..input_field import TRAINS
from ..report.log import note, warn
from ..training.auto_preset import LARGE_CORPUS, vocabulary_size
from ..workspace import DATASET_CACHE, TOKEN_CACHE, create_cache
from .corpus_files import corpus_files
from .fetch_tokenizer import fetch_tokenizer, is_on_the_hub
from .weighted_files import note_weights, require_weighted_files

_MUCH_REPEATED = 0.01  # of the held-out tokens of token files, from where a warning says it


def corpus_tokens(inputs: Inputs, start: ModelFolder | None) -> Tokens:
    """The tokens of `data`, by the tokenizer of `start`; for a new model by the input `tokenizer`, or by one that fits `data`.

    Raises InputError if the corpus is missing or invalid, if it is too small for the block size of `start`, or if `tokenizer`
    is not that of `start`.
    """
    found: list[Finding] = []
    files = corpus_files(inputs, found.append)
    for finding in found:
        _log(finding)
    tokenizer = _tokenizer(inputs, start, files)
    phases = (inputs.phases or ()) if inputs.mode in TRAINS else ()
    weighted = any(phase.weights for phase in phases)
    names = dataset_names(DATASET_CACHE) if weighted else {}
    require_weighted_files(phases, [names.get(path) or source_name(path) for path in files])
    tokens = prepare_tokens(
        files, tokenizer, TOKEN_CACHE, inputs.val_fraction, inputs.on_bad_file, _log, inputs.text_column, needs_sources=weighted
    )
    tokens = replace(tokens, findings=(*found, *tokens.findings), sources=_named(tokens.sources, names))
    if start:
        require_block(tokens, start.config.block_size)
    cached = ", cached" if tokens.reused else ""
    note(
        f"{len(files)} files, {tokens.documents:,} documents, tokenizer {tokenizer.name}: {len(tokens.train):,} training "
        f"tokens, {len(tokens.val):,} held out{cached}"
    )
    _note_leaks(tokens)
    _note_ppmd(tokens)
    if tokens.sources:
        note_weights(phases, tokens.sources)
    return tokens


def _log(finding: Finding) -> None:
    (warn if finding.is_loss else note)(str(finding))


def _named(sources: Sequence[Source] | None, names: Mapping[Path, str]) -> tuple[Source, ...] | None:
    """The sources with the `names` that files of datasets have there."""
    by_name = {source_name(path): name for path, name in names.items()}
    return None if sources is None else tuple(replace(one, name=by_name.get(one.name, one.name)) for one in sources)


def _note_leaks(tokens: Tokens) -> None:
    """Log what is in both splits: what was left out of training, and what is too common to be left out (corpus/leaks.py)."""
    if (found := tokens.repeated) and found.repeated:
        limited = "" if found.is_whole else f" (the first {MOST_HELD_OUT:,} held-out and {MOST_TRAINING:,} training tokens)"
        text = f"{repeated_text(found.repeated, found.compared, found.common)}{limited}"
        (warn if found.share >= _MUCH_REPEATED else note)(text)
    if tokens.leaked_bytes:
        size = tokens.leaked_bytes + (tokens.bytes_train or 0)
        note(
            f"left out of training: {tokens.leaked_bytes:,} bytes ({tokens.leaked_bytes / size:.1%}) in "
            f"{tokens.leaked_paragraphs:,} paragraphs, because they are in the held-out text too"
        )
    if tokens.common_bytes and tokens.bytes_val:
        note(
            f"{tokens.common_bytes:,} bytes ({tokens.common_bytes / tokens.bytes_val:.1%}) of the held-out text are common: "
            f"paragraphs with {COMMON} or more copies in the training text, where they stay. They make the validation loss "
            "lower than on new text; if they come from copies of the same files, exclude those from `data`"
        )


def _note_ppmd(tokens: Tokens) -> None:
    """Log what PPMd needs for the held-out text, or why that is unknown (corpus/ppmd.py)."""
    if tokens.ppmd_bits_per_byte is not None:
        note(f"PPMd, a general compressor, needs {tokens.ppmd_bits_per_byte:.4f} bits per byte for the held-out text")
    elif (size := (tokens.bytes_train or 0) + (tokens.bytes_val or 0)) > LARGEST:
        note(f"the corpus was not compressed with PPMd: it has {size:,} bytes of text, more than {LARGEST:,}")
    elif tokens.val_fraction is None:
        note("the corpus was not compressed with PPMd: token files have no text")
    elif tokens.bytes_train and tokens.bytes_val:
        note("the corpus was not compressed with PPMd: there was not enough memory")


def _tokenizer(inputs: Inputs, start: ModelFolder | None, files: list[Path]) -> Tokenizer:
    if start is None:
        texts = _training_texts(inputs, files)
        if is_token_files(files):
            return _of_token_files(inputs, files)
        if inputs.tokenizer is None:
            return _fitting(inputs, files, texts)
        spec = inputs.tokenizer
        if spec.startswith("bpe:"):
            return _trained_or_cached(spec, inputs, files, lambda: make_tokenizer(spec, texts))
        return _given(inputs, spec)
    tokenizer = load_tokenizer(start.path)
    derived, wanted = tokenizer.name, inputs.tokenizer
    facts = start.metadata.tokenizer if start.metadata else None
    if facts and facts.digest == tokenizer.digest and is_given_name(facts.name):
        tokenizer.name = facts.name
    # `bpe:<size>` means the tokenizer that was trained for this model: one of the same size from a grown corpus differs. A repo
    # may have another tokenizer by now, too.
    by_name = wanted is None or (not is_path(wanted) and wanted in (derived, tokenizer.name))
    if wanted and not by_name and _is_other(inputs, wanted, tokenizer):
        raise InputError(
            f"tokenizer: {wanted} is not the tokenizer of {start.path}, which is {tokenizer.name}. Nothing was trained.",
            "Remove tokenizer, or train a new model with resume: never and confirm_fresh_start: true.",
        )
    if (vocabulary := vocabulary_beside(files)) and tokenizer.name != IDS:
        _check_vocabulary(vocabulary, tokenizer, f"{start.path} has the tokenizer {tokenizer.name}")
    elif is_token_files(files) and tokenizer.name != IDS and (stated := stated_tokenizer(files)):
        _check_stated(stated, tokenizer, f"{start.path} has the tokenizer {tokenizer.name}")
    return tokenizer


def _is_other(inputs: Inputs, wanted: str, tokenizer: Tokenizer) -> bool:
    """Whether the input `tokenizer` is a file, a folder or a repo with other ids than `tokenizer`, or not one of these."""
    may_be_same = is_path(wanted) or is_on_the_hub(wanted)
    return not may_be_same or _given(inputs, wanted).digest != tokenizer.digest


def _given(inputs: Inputs, spec: str) -> Tokenizer:
    """A tokenizer that is not trained on the corpus."""
    if is_on_the_hub(spec):
        return fetch_tokenizer(inputs, spec)
    return make_tokenizer(spec, lambda: iter(()), note)


def _of_token_files(inputs: Inputs, files: list[Path]) -> Tokenizer:
    """The tokenizer that token files were written with: as given, that of meta.pkl or metadata.json beside them, or GPT-2's."""
    vocabulary = vocabulary_beside(files)
    stated = None if vocabulary else stated_tokenizer(files)
    given = inputs.tokenizer
    if given is None:
        if stated and stated.spec:
            note(f"tokenizer: {stated.spec}, as {stated.path} beside the token files states")
        elif not stated:
            note(
                f"tokenizer: {vocabulary}, beside the token files"
                if vocabulary
                else f"tokenizer: gpt2, without a {VOCABULARY} beside the token files"
            )
        tokenizer = make_tokenizer(str(vocabulary or (stated and stated.spec) or "gpt2"), lambda: iter(()))
        if stated:
            _check_stated(stated, tokenizer, "tokenizer is not set, which means gpt2")
        return tokenizer
    if given.startswith("bpe:"):
        raise InputError(
            f"tokenizer: {given} can't be trained on token files, which contain no text. Nothing was trained.",
            "Set `tokenizer` to the one that the files were written with.",
        )
    tokenizer = _given(inputs, given)
    if vocabulary:
        _check_vocabulary(vocabulary, tokenizer, f"tokenizer is {given}")
    elif stated:
        _check_stated(stated, tokenizer, f"tokenizer is {given}")
    return tokenizer


def _check_vocabulary(vocabulary: Path, tokenizer: Tokenizer, other: str) -> None:
    """Raises InputError if `vocabulary`, the meta.pkl beside the token files, is another one than that of `tokenizer`."""
    try:
        digest = make_tokenizer(str(vocabulary), lambda: iter(())).digest
    except InputError as error:
        note(f"{error.message} {other}.")
        return
    if digest != tokenizer.digest:
        raise InputError(
            f"{vocabulary} beside the token files is another vocabulary than that of the model: {other}. Nothing was trained.",
            f"Use token files of that vocabulary. If these are, remove {VOCABULARY}, which belongs to other files.",
        )


def _check_stated(stated: StatedTokenizer, tokenizer: Tokenizer, other: str) -> None:
    """Raises InputError if the metadata.json beside the token files states another tokenizer than that of the model."""
    differs = stated.size not in (None, tokenizer.vocab_size)
    if not differs and stated.spec and stated.spec != tokenizer.name:
        differs = make_tokenizer(stated.spec, lambda: iter(())).digest != tokenizer.digest
    if differs:
        hint = f" For these, set tokenizer: {stated.spec} for a new model." if stated.spec else ""
        raise InputError(
            f"{stated.path} beside the token files states {stated.text}, but {other}. Nothing was trained.",
            f"Use token files of that tokenizer.{hint}" if stated.spec else "Set `tokenizer` to the file of that vocabulary.",
        )


def _fitting(inputs: Inputs, files: list[Path], texts: Callable[[], Iterator[str]]) -> Tokenizer:
    """A tokenizer trained on the `texts` of `files`, with a number of entries that fits the size of their text."""
    text_bytes = 0
    for text in texts():
        text_bytes += len(text.encode())
        if text_bytes >= LARGE_CORPUS:
            break
    size = vocabulary_size(text_bytes)
    return _trained_or_cached(f"at most bpe:{size}", inputs, files, lambda: train_tokenizer(size, texts))


def _trained_or_cached(spec: str, inputs: Inputs, files: list[Path], train: Callable[[], Tokenizer]) -> Tokenizer:
    """The tokenizer that `train` makes from `files`, from the cache if that did so for `spec` and the same content before."""
    maker = f"{spec} by tokenizers {tokenizers.__version__}"
    digest = corpus_digest(files, maker, inputs.val_fraction, inputs.text_column)
    folder = TOKEN_CACHE / f"tokenizer-{digest[:16]}"
    try:
        tokenizer = load_tokenizer(folder)
    except CheckpointError:  # not cached, or incomplete
        tokenizer = train()
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another process was first, or the disk is full
            create_cache(TOKEN_CACHE)
            with new_folder(folder) as written:
                tokenizer.save(written)
    return tokenizer


def _training_texts(inputs: Inputs, files: list[Path]) -> Callable[[], Iterator[str]]:
    """The texts to train a tokenizer on: without held-out ones, whose words its entries would know."""
    return lambda: (text for text in _texts(inputs, files)() if not is_validation(text, inputs.val_fraction))


def _texts(inputs: Inputs, files: list[Path]) -> Callable[[], Iterator[str]]:
    # what it skips is logged once, by prepare_tokens
    return lambda: (document.text for document in read_documents(files, inputs.on_bad_file, lambda _: None, inputs.text_column))
