"""Files -> `train.bin` and `val.bin`: memory-mapped token ids, cached on disk for each corpus and tokenizer.

    cache/<digest>/train.bin  val.bin    ids, uint16 (uint32 from 65,537 entries on), little-endian, one stream per split
                   meta.json             counts

The format is nanoGPT's, whose own train.bin and val.bin are used unchanged. An end-of-text id follows each document, and
each passage whose successor is in the other split, or was left out of training because it is held out too (leaks.py).

The training text is in the order of the files, by their content. The held-out text is in an order of its own, by its content
only, so that its ids stay the same when other text of the corpus changes.
"""

import fcntl
import json
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import InputError
from ..workspace import create_cache
from .file_types import Kind, is_passages, kind_of
from .findings import REFUSED_BY_FAIL, SKIPPED_FILES, Finding, Report, condensed, shown_path
from .nanogpt_bin import is_token_files, nanogpt_tokens
from .ppmd import CollectedText, ppmd_bits_per_byte
from .readers import Document, OnBadFile, read_documents
from .round_trip import RoundTrip
from .source_weights import source_name
from .split import Segment, split_position
from .split_corpus import split_corpus
from .tokenizer import Tokenizer
from .tokens import FORMAT, Ids, Source, Tokens, hash_file, hash_text, held_out_digest, id_dtype, map_ids

# In the digest instead of the name of a kind whose documents are others than in earlier versions
_FORMATS: dict[Kind, str] = {"jsonl": "jsonl 2", "json": "json 2", "parquet": "parquet 2"}
_BATCH = 4_000_000  # characters tokenized at a time: bounds memory, and is enough for all cores


@dataclass
class _Split:
    """The counts of one split in meta.json."""

    tokens: int = 0
    documents: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class _Meta:
    """meta.json, which is written last: if it is complete, the token files are too."""

    train: _Split
    val: _Split
    val_sha256: str
    leaked_bytes: int  # of text left out of training, because it is also held out
    leaked_paragraphs: int
    common_bytes: int  # of held-out text that is too common in the training text to be left out there
    findings: tuple[Finding, ...]  # reported again when the files are reused
    places: dict[str, int] = field(default_factory=dict)  # of the files of findings in the order by content: names can change
    is_compared: bool = False  # with what comes back from the ids; earlier versions did not
    is_compressed: bool = False  # by PPMd, unless the text is too large; earlier versions did not
    ppmd_bits_per_byte: float | None = None
    train_tokens_by_file: list[int] | None = None  # in the order by content; earlier versions did not count them


def prepare_tokens(
    files: Sequence[Path],
    tokenizer: Tokenizer,
    cache: Path,
    val_fraction: float,
    on_bad_file: OnBadFile,
    report: Report,
    text_column: str | None = None,
    needs_sources: bool = False,
) -> Tokens:
    """The token ids of `files`, from `cache` if the same content was tokenized before, or those of nanoGPT's `.bin` files.

    It may be killed at any time, and several processes may run it at once: one tokenizes, the others wait for it.
    `needs_sources`: tokens of an earlier version, which do not record the number of tokens of each file, are made again.
    Only the contents of the files matter, not their names or order. `report` is called with each finding, also with those of
    the run that wrote the cache.
    Raises InputError for a file that can't be read (see `read_documents`), and for a corpus with an empty split;
    TokenizerError if the tokenizer loses too much of the text (see round_trip.py).
    """
    if is_token_files(files):
        tokens = nanogpt_tokens(files, tokenizer)
        for finding in tokens.findings:
            report(finding)
        return tokens
    by_content = _by_content(files)
    digest = _digest(by_content, tokenizer.digest, val_fraction, text_column)
    folder = cache / digest[:16]
    with _locked(folder):
        meta = _read_meta(folder, tokenizer)
        refused = meta is not None and on_bad_file == "fail" and any(one.kind in REFUSED_BY_FAIL for one in meta.findings)
        if meta and needs_sources and meta.train_tokens_by_file is None:
            meta = None
        reused = meta is not None and not refused
        paths = [path for _, _, path in by_content]
        if meta is None or refused:
            meta = _write(folder, paths, tokenizer, val_fraction, on_bad_file, text_column)
    names = {file: shown_path(paths[place]) for file, place in meta.places.items()}
    findings = tuple(replace(one, file=names.get(one.file, one.file)) for one in meta.findings)
    for finding in findings:
        report(finding)
    return Tokens(
        train=map_ids(folder / "train.bin", tokenizer),
        val=map_ids(folder / "val.bin", tokenizer),
        digest=digest,
        val_digest=held_out_digest(tokenizer, meta.val_sha256),
        tokenizer=tokenizer,
        documents=meta.train.documents + meta.val.documents,
        val_documents=meta.val.documents,
        bytes_train=meta.train.bytes,
        bytes_val=meta.val.bytes,
        leaked_bytes=meta.leaked_bytes,
        leaked_paragraphs=meta.leaked_paragraphs,
        common_bytes=meta.common_bytes,
        val_fraction=val_fraction,
        reused=reused,
        findings=findings,
        sources=_sources(paths, meta.train_tokens_by_file),
        ppmd_bits_per_byte=meta.ppmd_bits_per_byte,
    )


def _sources(paths: Sequence[Path], counts: Sequence[int] | None) -> tuple[Source, ...] | None:
    if counts is None:
        return None
    return tuple(Source(source_name(path), count) for path, count in zip(paths, counts, strict=True))


def corpus_digest(files: Sequence[Path], tokenizer_digest: str, val_fraction: float, text_column: str | None = None) -> str:
    """The digest of the tokens of text files, without tokenizing them, to check if a model was trained on this corpus."""
    return _digest(_by_content(files), tokenizer_digest, val_fraction, text_column)


def _by_content(files: Sequence[Path]) -> list[tuple[str, Kind, Path]]:
    """Ordered by content, so that the result does not depend on names and folders."""
    return sorted((hash_file(path), kind_of(path), path) for path in files)


def _digest(
    by_content: Sequence[tuple[str, Kind, Path]], tokenizer_digest: str, val_fraction: float, text_column: str | None
) -> str:
    settings = [FORMAT, tokenizer_digest, repr(float(val_fraction))]
    if text_column is not None:
        settings.append(f"text_column {text_column}")
    return hash_text([*settings, *(f"{_FORMATS.get(kind, kind)} {content}" for content, kind, _ in by_content)])


def _write(
    folder: Path,
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    val_fraction: float,
    on_bad_file: OnBadFile,
    text_column: str | None,
) -> _Meta:
    """Tokenize `paths` into `folder`, atomically. The caller holds its lock."""
    findings: list[Finding] = []
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # from a run that was killed
    partial.mkdir()
    try:
        documents = read_documents(paths, on_bad_file, findings.append, text_column)
        with split_corpus(documents, val_fraction, partial) as corpus:
            round_trip = RoundTrip(tokenizer)
            texts = CollectedText(), CollectedText()
            by_file = _CountByFile(paths)
            train = _tokenize(corpus.train(), round_trip, partial / "train.bin", texts[0], by_file.add)
            val = _tokenize(corpus.val(), round_trip, partial / "val.bin", texts[1])
            leaks = corpus.leaks
        if not train.documents or not val.documents:
            # read again, because only a small corpus has an empty split
            documents = read_documents(paths, "skip", lambda _: None, text_column)
            raise _empty_split(train, val, leaks.bytes, documents, val_fraction, condensed(findings))
        round_trip.check()
        val_sha256 = hash_file(partial / "val.bin")
        kept = condensed((*findings, *round_trip.findings()))
        named = {finding.file for finding in kept}
        places = {name: place for place, path in enumerate(paths) if (name := shown_path(path)) in named}
        meta = _Meta(
            train,
            val,
            val_sha256,
            leaks.bytes,
            leaks.paragraphs,
            leaks.common_bytes,
            kept,
            places,
            is_compared=True,
            is_compressed=True,
            ppmd_bits_per_byte=ppmd_bits_per_byte(*texts),
            train_tokens_by_file=by_file.counts,
        )
        with (partial / "meta.json").open("w", encoding="utf-8") as file:
            json.dump(asdict(meta), file, indent=2)
            _sync(file)
        shutil.rmtree(folder, ignore_errors=True)  # exists only if it was damaged
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return meta


class _CountByFile:
    """Counts the tokens of each of `paths`, whose segments are added in this order."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._names = [str(path) for path in paths]
        self._are_passages = [is_passages(path) for path in paths]
        self._file = 0
        self.counts = [0] * len(paths)

    def add(self, source: str, tokens: int) -> None:
        """Add the tokens of a segment, whose `source` is the path of a file of text, or `path:n` for a record."""
        record_of = source.rpartition(":")[0]
        while self._names[self._file] != (source if self._are_passages[self._file] else record_of):
            self._file += 1
        self.counts[self._file] += tokens


def _tokenize(
    texts: Iterable[Segment],
    round_trip: RoundTrip,
    path: Path,
    collected: CollectedText,
    count: Callable[[str, int], None] = lambda _source, _tokens: None,
) -> _Split:
    split, tokenizer = _Split(), round_trip.tokenizer
    dtype = id_dtype(tokenizer)
    ending = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
    end_of_text = np.array(ending, dtype).tobytes()
    with path.open("wb") as file:
        for batch, all_ids in _encoded(_batches(texts), round_trip):
            for segment, ids in zip(batch, all_ids, strict=True):
                file.write(ids.astype(dtype, copy=False).data)
                written = len(ids) + segment.ends * len(ending)
                split.tokens += written
                count(segment.source, written)
                split.documents += segment.documents
                collected.add(segment.text.encode())
                if segment.ends:
                    file.write(end_of_text)
        _sync(file)
    split.bytes = collected.size
    return split


def _encoded(batches: Iterable[list[Segment]], round_trip: RoundTrip) -> Iterator[tuple[list[Segment], list[Ids]]]:
    """Each batch with its ids, which are computed while the next batch is read: the tokenizers release the GIL."""

    tokenizer = round_trip.tokenizer
    before = ""  # what the next segment continues; other tokenizers than ours may put a space before each text

    def encode(batch: list[Segment]) -> list[Ids]:
        nonlocal before
        texts, sources = [segment.text for segment in batch], [segment.source for segment in batch]
        all_ids = tokenizer.encode_batch(texts)
        round_trip.add(texts, sources, all_ids)
        for number, segment in enumerate(batch):
            if before:
                all_ids[number] = tokenizer.encode_after(before, segment.text)
            before = "" if segment.ends or tokenizer.is_lossless else _last_line(segment.text)
        return all_ids

    with ThreadPoolExecutor(1) as ahead:
        pending: deque[tuple[list[Segment], Future[list[Ids]]]] = deque()
        for batch in batches:
            pending.append((batch, ahead.submit(encode, batch)))
            if len(pending) > 1:
                done, ids = pending.popleft()
                yield done, ids.result()
        for done, ids in pending:
            yield done, ids.result()


def _last_line(text: str) -> str:
    return text[text.rstrip("\n").rfind("\n") + 1 :][-1_000:]


def _batches(texts: Iterable[Segment]) -> Iterator[list[Segment]]:
    batch: list[Segment] = []
    characters = 0
    for segment in texts:
        batch.append(segment)
        characters += len(segment.text)
        if characters >= _BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _empty_split(
    train: _Split, val: _Split, leaked: int, documents: Iterable[Document], val_fraction: float, findings: Sequence[Finding]
) -> InputError:
    """The error for a corpus with an empty split; suggests a fraction for which neither is empty."""
    also = "".join(f" {finding}." for finding in findings[:5])
    if leaked:
        return InputError(
            f"The corpus has no training text: {val.documents:,} documents are held out for validation, and all text of the "
            f"others ({leaked:,} bytes) is in them too, so it was left out of training. Nothing was trained.",
            "Add text, and remove copies of the same text from `data`.",
        )
    if not train.documents + val.documents:
        return InputError(
            f"The corpus has no text: all files are empty, or were skipped. Nothing was trained.{also}",
            "Check `data` and the files that it selects.",
        )
    found = f"{train.documents + val.documents:,} documents with {train.bytes + val.bytes:,} bytes of text"
    missing = "training" if val.documents else "validation"
    positions = sorted({split_position(document.text) for document in documents})
    hint = "Add text: there must be at least two different documents (a long text file counts as several)."
    for first, second in pairwise(positions):
        fraction = math.ceil(first * 100 + 1e-9) / 100
        if first < fraction <= second:
            hint = f"Set val_fraction to {fraction:.2f}, or add text: the share held out approaches val_fraction."
            break
    return InputError(
        f"The corpus has {found}, but with val_fraction {val_fraction:g} none of them is in the {missing} split. Nothing was "
        f"trained. (Documents are assigned by a hash of their text, so that none moves as the corpus grows.){also}",
        hint,
    )


def _read_meta(folder: Path, tokenizer: Tokenizer) -> _Meta | None:
    """The meta.json of an earlier run; None if it is missing, or if the token files have other sizes."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        skipped = meta.pop("warnings", [])  # of earlier versions
        findings = (
            *(Finding(SKIPPED_FILES, "", 1, warning) for warning in skipped),
            *(Finding(**finding) for finding in meta.get("findings", [])),
        )
        splits = {"train": _Split(**meta["train"]), "val": _Split(**meta["val"])}
        read = _Meta(**meta | splits | {"findings": findings})
        sizes = [(folder / name).stat().st_size for name in ("train.bin", "val.bin")]
        counts = read.train_tokens_by_file
        if counts is not None and sum(counts) != read.train.tokens:
            return None
        if not read.is_compressed or not (read.is_compared or tokenizer.is_lossless):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    width = id_dtype(tokenizer).itemsize
    return read if sizes == [read.train.tokens * width, read.val.tokens * width] else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """A lock for one process at a time, which the operating system releases when that process ends."""
    create_cache(folder.parent)
    with folder.with_name(folder.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
