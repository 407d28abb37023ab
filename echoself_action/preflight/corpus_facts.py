"""The corpus, read once without tokenizing it: files, documents, bytes, the held-out share, and an estimate of the tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.inputs import Inputs
from ..corpus.findings import Finding, condensed
from ..corpus.nanogpt_bin import is_token_files
from ..corpus.readers import read_documents
from ..corpus.source_weights import source_name
from ..corpus.split import is_validation
from ..corpus.tokenizer import CODE_POINTS, PRINTABLE_ASCII
from ..errors import InputError
from ..evaluation.questions.question_file import read_questions
from ..hub.repo_id import SCHEME
from ..markdown import counted
from ..report.checks import PreflightCheck, warning
from ..starting.corpus_files import HELD_OUT, files_here, question_files
from ..starting.weighted_files import never_read, require_weighted_files
from ..training.auto_preset import vocabulary_size

_SHOWN = 3  # findings in the check
# UTF-8 bytes of English text and code for each token of a vocabulary trained on it; GPT-2's, and others.
_BYTES_PER_TOKEN = ((0, 1.5), (1024, 2.5), (4096, 3.4), (8192, 3.7), (16384, 3.9), (32768, 4.1))
_OF_GPT2, _OF_OTHERS = 3.2, 3.4
_GPT2_ENTRIES, _BYTE_ENTRIES, _ASCII_ENTRIES = 50257, 257, 96


@dataclass(frozen=True)
class CorpusFacts:
    """Documents are None, and so are bytes of text, for nanoGPT's token files. Bytes are those of the UTF-8 text."""

    files: Sequence[Path]
    documents: int | None
    train_bytes: int
    val_bytes: int
    findings: tuple[Finding, ...] = ()

    def vocabulary(self, spec: str | None) -> int:
        """The entries of the tokenizer `spec`; None: the one that fits the corpus."""
        if spec is None:
            return vocabulary_size(self.train_bytes)
        kind, _, size = spec.partition(":")
        if kind == "bpe" and size.isdecimal():
            return int(size)
        return {"bytes": _BYTE_ENTRIES, PRINTABLE_ASCII: _ASCII_ENTRIES}.get(spec, _GPT2_ENTRIES)

    def bytes_per_token(self, spec: str | None) -> float:
        """An estimate for the tokenizer `spec`."""
        if self.documents is None or spec in ("bytes", CODE_POINTS, PRINTABLE_ASCII):
            return 1.0  # the counts of token files are of tokens
        if spec is None or spec.startswith("bpe:"):
            entries = self.vocabulary(spec)
            return next(size for least, size in reversed(_BYTES_PER_TOKEN) if entries >= least)
        return _OF_GPT2 if spec == "gpt2" else _OF_OTHERS


def read_corpus(inputs: Inputs) -> CorpusFacts:
    """The corpus that `data` selects in the working directory.

    Training text that all phases leave out is not counted in bytes.
    Raises InputError if a pattern or a glob of phases matches no file, if a file can't be read, or if one of the splits would
    be empty.
    """
    found: list[Finding] = []
    files = files_here(inputs, found.append)
    if is_token_files(files):
        sizes = {path: path.stat().st_size // 2 for path in files if path.suffix == ".bin"}
        held_out = sum(size for path, size in sizes.items() if path.name.startswith("val"))
        return CorpusFacts(files, None, sum(sizes.values()) - held_out, held_out)
    counts = {False: 0, True: 0}
    documents = {False: 0, True: 0}
    names = {path: source_name(path) for path in files}
    if not _has_datasets(inputs):
        require_weighted_files(inputs.phases or (), list(names.values()))
    unread = never_read(inputs.phases or (), list(names.values()))
    for path, name in names.items():
        for document in read_documents([path], inputs.on_bad_file, found.append, inputs.text_column):
            is_held_out = is_validation(document.text, inputs.val_fraction)
            counts[is_held_out] += len(document.text.encode()) if is_held_out or name not in unread else 0
            documents[is_held_out] += 1
    if files and not (documents[True] and documents[False]) and not _has_datasets(inputs):
        missing = "training" if documents[True] else "validation"
        found_text = f"{counted(sum(documents.values()), 'document')} with {sum(counts.values()):,} bytes of text"
        raise InputError(
            f"The corpus has {found_text}, but with val_fraction {inputs.val_fraction:g} none is in the {missing} split.",
            "Add text, or another val_fraction: there must be at least two different documents.",
        )
    return CorpusFacts(files, sum(documents.values()), counts[False], counts[True], condensed(found))


def corpus_check(inputs: Inputs, corpus: CorpusFacts, bytes_per_token: float) -> PreflightCheck:
    """What the corpus holds, and what would not be learnt from it."""
    datasets = [source for source in inputs.data if source.startswith(SCHEME)]
    also = f"; and {', '.join(datasets)}, not read before the run" if datasets else ""
    total = corpus.train_bytes + corpus.val_bytes
    tokens = round(total / bytes_per_token)
    share = f"{corpus.val_bytes / total:.0%} held out" if total else "nothing held out"
    if corpus.documents is None:
        return PreflightCheck("corpus", f"{counted(len(corpus.files), 'token file')} with {tokens:,} tokens, {share}{also}")
    read = f"{counted(len(corpus.files), 'file')}, {counted(corpus.documents, 'document')}, {size_text(total)} of text"
    text = f"{read}, about {rounded(tokens):,} tokens, {share}{also}"
    losses = [finding for finding in corpus.findings if finding.is_loss]
    if not losses:
        return PreflightCheck("corpus", text)
    fix = "\n".join(f"{finding}" for finding in losses[:_SHOWN])
    more = f"\nand {len(losses) - _SHOWN} more" if len(losses) > _SHOWN else ""
    return warning("corpus", f"{text}. Not learnt as it is in the files:", fix + more)


def files_check(inputs: Inputs) -> PreflightCheck:
    """The files of the corpus, which are not read. Raises InputError if a pattern matches no file."""
    files = files_here(inputs)
    datasets = [source for source in inputs.data if source.startswith(SCHEME)]
    parts = [f"{counted(len(files), 'file')}, {size_text(sum(path.stat().st_size for path in files))}"] if files else []
    return PreflightCheck("corpus", "; and ".join([*parts, *datasets]))


def questions_check(inputs: Inputs) -> list[PreflightCheck]:
    """The questions of `evaluate`; none without that input. Those of the corpus are not read."""
    if not inputs.question_sources:
        return []
    files = question_files(inputs)
    read = f"{counted(len(read_questions(files)), 'question')} in {counted(len(files), 'file')}" if files else ""
    held_out = "those of the held-out records" if HELD_OUT in inputs.question_sources else ""
    return [PreflightCheck("questions", " and ".join(part for part in (read, held_out) if part))]


def size_text(count: int) -> str:
    """`280 KB`, of a number of bytes."""
    power = 0 if count < 1000 else 1 if count < 1_000_000 else 2
    return f"{count / 1000**power:.3g} {('bytes', 'KB', 'MB')[power]}" if count < 1_000_000_000 else f"{count / 1e9:.3g} GB"


def _has_datasets(inputs: Inputs) -> bool:
    return any(source.startswith(SCHEME) for source in inputs.data)


def rounded(count: float) -> int:
    """To two digits: it is an estimate."""
    return int(float(f"{count:.2g}"))
