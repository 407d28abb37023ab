"""Imports a `.pt` of another program as a checkpoint that training can resume from.

The folder gets its final name only after transformers computed the same logits from it as the original forward pass does from
the file.
"""

import platform
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from .. import evaluation
from ..checkpoint.architectures import architecture_of
from ..checkpoint.atomic import new_folder
from ..checkpoint.metadata import ImportFacts, Metadata, PretrainedFacts, TokenizerFacts, parity_text, read_metadata
from ..checkpoint.model_folder import ModelFolder, read_model_folder, same_model
from ..checkpoint.select import folders_of_step, free_path
from ..checkpoint.vocabulary import TOKENIZER_FILE
from ..checkpoint.weights import write_model
from ..corpus.make_tokenizer import (
    code_points,
    ids_tokenizer,
    is_in_vocab_merges,
    is_path,
    load_tokenizer,
    make_tokenizer,
)
from ..corpus.tokenizer import CODE_POINTS, IDS, PRINTABLE_ASCII, Tokenizer
from ..corpus.vocab_merges import VOCABULARY_FILE
from ..errors import CheckpointError, InputError
from ..training.optim.schedule import FLOOR, Schedule, cosine_schedule
from ..training.training_state import TrainingState, write_moments, write_spare, write_state
from ..workspace import create_output_dir
from .detect_layout import shown
from .folder_tokenizer import folder_tokenizer
from .imported_model import NOTHING_GIVEN, Given, ImportedModel
from .registry import NANECHO, NETRAIN, Format, format_of, format_of_file, known_layouts
from .torch_file.reader import read_torch_file
from .trained_ids import TrainedIds, trained_ids
from .transformers_folder import FOLDER, TRAINER_CHECKPOINT

_GPT2_VOCABULARY, _PADDED = 50257, 50432  # nanoGPT pads to a multiple of 64; others of 128 and 256
_EMBEDDINGS = ("token_embedding.weight", "transformer.wte.weight")
_OF_ECHOSELF = {NETRAIN, *(layout.name for layout in NANECHO.layouts)}
_ONLY = "not GPT-2 tokens: its file names no tokenizer, and of its embeddings only"
_EVIDENCE = {
    TrainedIds.CODE_POINTS: f"character codes, {_ONLY} those of characters were trained, each at its code point",
    TrainedIds.PRINTABLE_ASCII: f"character codes, {_ONLY} those of characters were trained, each at its ASCII code minus 32",
    TrainedIds.BELOW_256: f"{_ONLY} some below 256 were trained, whose meaning is unknown",
}
_SAME_TEXT = {
    TrainedIds.CODE_POINTS: "the same eight sentences",
    TrainedIds.PRINTABLE_ASCII: "sentences from the same templates",
}
_BUFFERS = (".mask", "._current_ratio_tensor")  # of NanEcho's connections
_ALWAYS_EXACT = "gelu"  # of NanEcho, whose config does not name its activation
_SEED = 1337  # of nanoGPT's train.py, which does not record it


class FormatReader(Protocol):
    """The module that reads a format."""

    def read(self, file: Any, given: Given) -> ImportedModel:
        """Convert `file`, the `TorchFile` of a `.pt`, or the path of a file that the format recognises itself.

        Raises CheckpointError for a file that contradicts itself or records too little.
        """


def import_checkpoint(
    path: Path, output_dir: Path, tokenizer: str | None, note: Callable[[str], None], given: Given = NOTHING_GIVEN
) -> ModelFolder:
    """Import the `.pt` at `path` as `checkpoint-<step>` in `output_dir`, unless that was imported from the same file already.

    `tokenizer` is a spec, or None to find the vocabulary; `given` is for files that do not record it. Another checkpoint of
    the same step is set aside.
    Raises CheckpointError if the file is invalid, has a layout that can't be converted, or fails the parity check.
    """
    return import_model(read_checkpoint_file(path, note, given), output_dir, tokenizer, note)


def import_model(source: ImportedModel, output_dir: Path, tokenizer: str | None, note: Callable[[str], None]) -> ModelFolder:
    """As `import_checkpoint`, for a file that was read already."""
    vocabulary = _vocabulary(source.origin.path, source, tokenizer, note)
    for place in folders_of_step(output_dir, source.step):
        facts = read_metadata(place)
        origin = facts.imported_from.fingerprint if facts and facts.imported_from and facts.is_import else None
        if facts and origin == source.origin.fingerprint and facts.tokenizer.digest == vocabulary.digest:
            here = read_model_folder(place)
            if same_model(here.config, source.config):
                note(f"already imported: {place}")
                return here
    return _written(source, vocabulary, free_path(output_dir / f"checkpoint-{source.step}", note), note)


def import_pretrained(
    source: ImportedModel,
    output_dir: Path,
    tokenizer: str | None,
    facts: PretrainedFacts,
    settings: Mapping[str, Any],
    note: Callable[[str], None],
) -> ModelFolder:
    """Import the model alone as `checkpoint-0` in `output_dir`: step 0 of a new run, without the history of its training.

    `settings` are those of its training that the run continues with. `facts` are recorded, with the remarks of the import.
    `tokenizer` is as in `import_checkpoint`, and raises alike.
    """
    vocabulary = _vocabulary(source.origin.path, source, tokenizer, note)
    if vocabulary.name in (TOKENIZER_FILE, VOCABULARY_FILE):  # nothing in the file names it
        vocabulary.name = facts.source
    final = free_path(output_dir / "checkpoint-0", note)
    remarks = [*facts.remarks, *source.remarks]
    model = replace(
        source, moments={}, optimizer_notes=(), spare={}, step=0, train_loss=None, best_val_loss=None, settings=settings
    )
    return _written(model, vocabulary, final, note, facts.model_copy(update={"remarks": remarks}))


def read_checkpoint_file(path: Path, note: Callable[[str], None], given: Given = NOTHING_GIVEN) -> ImportedModel:
    """Read and check the `.pt` at `path`. Raises CheckpointError if it is invalid or can't be converted.

    The names of its tensors determine the architecture: trainers have saved several in one layout.
    """
    if apart := format_of_file(path):
        note(f"{path}: {apart.display_name}")
        return _read(apart, path, given)
    file = read_torch_file(path)
    note(file.description)
    recognised = format_of(file.layout.name, file.weights.keys())
    if recognised is None:
        file.refuse(
            f"has the layout '{file.layout.name}', but its tensors are not those of a recognised model: "
            f"{shown(list(file.weights))}",
            "Supported models: GPT-2 (`transformer.wte.weight`, `transformer.h.0.attn.c_attn.weight`, with or without "
            "`transformer.`) and NanEcho (`token_embedding.weight`, `blocks.0.attn.qkv.weight`), in these layouts: "
            f"{known_layouts()}.",
        )
    return _read(recognised, file, given)


def _read(recognised: Format, file: Any, given: Given) -> ImportedModel:
    reader: FormatReader = recognised.load_reader()
    source = reader.read(file, given)
    for name, value in vars(given).items():  # also of formats that record both, or fix one
        recorded = getattr(source.config, name, _ALWAYS_EXACT)
        if value not in (None, recorded):
            raise CheckpointError(
                f"{source.origin.path} records {name}={recorded}, but {name}: {value} was given. It was not used.",
                f"Leave {name} out.",
            )
    return _identified(source)


def _identified(source: ImportedModel) -> ImportedModel:
    """The model with the vocabulary that its embeddings show, if its file names none and it has as many ids as GPT-2."""
    if source.vocabulary or not _GPT2_VOCABULARY <= source.config.vocab_size <= _PADDED:
        return source
    found = trained_ids(next(source.weights[name] for name in _EMBEDDINGS if name in source.weights))
    source.origin.release()
    if found is TrainedIds.UNKNOWN:
        return source
    remarks = [] if found is TrainedIds.OTHERS else [_EVIDENCE[found]]
    if found in _SAME_TEXT and source.best_val_loss is not None and source.origin.layout in _OF_ECHOSELF:
        remarks.append(
            f"its val_loss of {source.best_val_loss:.4g} was measured on its training text: the programs of EchoSelf that "
            f"encode text in this way write {_SAME_TEXT[found]} to train.bin and val.bin"
        )
    return replace(source, vocabulary=found.value, remarks=(*source.remarks, *remarks))


def _written(
    source: ImportedModel,
    tokenizer: Tokenizer,
    final: Path,
    note: Callable[[str], None],
    pretrained: PretrainedFacts | None = None,
) -> ModelFolder:
    try:
        return _write(source, tokenizer, final, note, pretrained)
    except OSError as error:
        raise CheckpointError(
            f"{final} could not be written: {error}.", "Free disk space, or give another output_dir."
        ) from error


def _write(
    source: ImportedModel, tokenizer: Tokenizer, final: Path, note: Callable[[str], None], pretrained: PretrainedFacts | None
) -> ModelFolder:
    release = source.origin.release
    create_output_dir(final.parent)
    with new_folder(final) as folder, ThreadPoolExecutor(1) as beside:
        written = beside.submit(write_moments, folder, source.moments, release) if source.has_state else None
        digest = write_model(folder, source.config, source.weights, tokenizer.end_of_text_id, release)
        tokenizer.save(folder, source.config.block_size)
        facts = _metadata(source, tokenizer, digest, pretrained)
        facts.write(folder)
        parity = evaluation.check_parity(read_model_folder(folder), source.logits)
        facts.model_copy(update={"parity": parity}).write(folder)
        if written:
            written.result()
            write_state(folder, _state(source, digest))
            if source.spare:
                write_spare(folder, source.spare)
    note(f"imported as {final}; transformers compared with the original forward pass: {parity_text(parity)}")
    for remark in source.remarks:
        note(remark)
    for assumption in source.assumptions:
        note(assumption)
    for changed in source.optimizer_notes:
        note(changed)
    if not source.moments and not source.optimizer_notes and not pretrained:
        note("no optimizer state: training resumes from the weights with a new optimizer")
    return read_model_folder(final)


def _vocabulary(path: Path, source: ImportedModel, spec: str | None, note: Callable[[str], None]) -> Tokenizer:
    """The given tokenizer; otherwise one beside the file, or GPT-2's if the size matches; otherwise plain ids."""
    size, dataset = source.config.vocab_size, str(source.settings.get("dataset", ""))
    if source.origin.layout in (FOLDER, TRAINER_CHECKPOINT):
        return _checked_size(path, folder_tokenizer(path.parent, spec, size, note), size, note)
    if source.vocabulary in (CODE_POINTS, PRINTABLE_ASCII) or (source.vocabulary == IDS and spec):
        return _checked_size(path, _of_codes(path, source, spec), size, note)
    older = is_in_vocab_merges(path.parent)
    if spec is None and (older or (path.parent / TOKENIZER_FILE).is_file()):  # as transformers saves it
        note(f"its vocabulary is in {path.parent / ('vocab.json and merges.txt' if older else TOKENIZER_FILE)}")
        return _checked_size(path, load_tokenizer(path.parent), size, note)
    # train.py reads data/<dataset>/ beside the folder of ckpt.pt; the name is untrusted, and must not lead elsewhere
    places = [path.parent / "meta.pkl"]
    if dataset.replace("_", "").replace("-", "").isalnum():
        places.append(path.parent.parent / "data" / dataset / "meta.pkl")
    beside = next((place for place in places if place.is_file()), None)
    if spec is None and beside:
        spec = str(beside)
        note(f"its vocabulary is in {beside}")
    elif spec is None and source.vocabulary != IDS and _GPT2_VOCABULARY <= size <= _PADDED:
        spec = source.vocabulary or "gpt2"
        if not source.vocabulary and source.origin.layout in _OF_ECHOSELF:
            note(
                f"its file names no tokenizer, and its embeddings do not show one after so few steps: GPT-2's is assumed, by "
                f"the number of its ids. If it was trained on character codes, set tokenizer: {CODE_POINTS}"
            )
    if spec is None:
        looked = " or ".join(map(str, places))
        note(
            f"the meaning of its {size} token ids is unknown: {looked} is missing. "
            "The model is imported exactly, but its text consists of ids, as numbers; give `tokenizer` to change that"
        )
        return ids_tokenizer(size)
    return _checked_size(path, make_tokenizer(spec, lambda: iter(())), size, note)


def _of_codes(path: Path, source: ImportedModel, spec: str | None) -> Tokenizer:
    """The tokenizer that the embeddings show; where they only exclude GPT-2's, the file that is given.

    Raises InputError if another one is given.
    """
    given = make_tokenizer(spec, lambda: iter(())) if spec and is_path(spec) else None
    if source.vocabulary == IDS:
        if given and given.content_name != "gpt2":
            return given
    elif spec in (None, source.vocabulary) or (given and given.content_name == source.vocabulary):
        is_code_points = source.vocabulary == CODE_POINTS
        return code_points(source.config.vocab_size) if is_code_points else make_tokenizer(PRINTABLE_ASCII, lambda: iter(()))
    raise InputError(
        f"tokenizer: {spec} is not what {path} was trained with: {_EVIDENCE[TrainedIds(source.vocabulary)]}. Nothing was "
        "imported.",
        f"Remove tokenizer, or set it to {source.vocabulary}. For a model with another tokenizer, train a new one."
        if source.vocabulary != IDS
        else "Remove tokenizer, or set it to the file of the vocabulary that the model was trained with.",
    )


def _checked_size(path: Path, tokenizer: Tokenizer, size: int, note: Callable[[str], None]) -> Tokenizer:
    if tokenizer.vocab_size > size:
        raise CheckpointError(
            f"{path} has {size:,} token ids, but the tokenizer {tokenizer.name} has {tokenizer.vocab_size:,}. "
            "Nothing was written.",
            "Give the tokenizer that the model was trained with.",
        )
    if tokenizer.vocab_size < size:
        spare = size - tokenizer.vocab_size
        note(
            f"the token embedding is padded: it has {size:,} rows for {tokenizer.vocab_size:,} tokens. The {spare} padding "
            "rows are kept, because they are part of the softmax and of the optimizer state"
        )
    return tokenizer


def _metadata(source: ImportedModel, tokenizer: Tokenizer, digest: str, pretrained: PretrainedFacts | None) -> Metadata:
    origin, dtype = source.origin, source.settings.get("dtype")
    imported_from = ImportFacts(
        layout=origin.layout,
        file=origin.name or origin.path.name,
        fingerprint=origin.fingerprint,
        remarks=list(source.remarks),
        optimizer_notes=list(source.optimizer_notes),
        step=source.step,
        tokens_seen=_tokens(source) or None,
        train_loss=source.train_loss,
        val_loss=source.best_val_loss,
    )
    return Metadata(
        run_id=uuid.uuid4().hex if pretrained else origin.fingerprint[:32],  # the same checkpoint is the same run
        step=source.step,
        tokens_seen=_tokens(source),
        elapsed_s=0.0,
        train_loss=None,
        val_loss=None,  # train measures it on its own corpus
        best_val_loss=None,
        best_step=None,
        architecture=architecture_of(source.config).name,
        parameters=sum(tensor.size for name, tensor in source.weights.items() if not name.endswith(_BUFFERS)),
        tokenizer=TokenizerFacts(name=tokenizer.name, digest=tokenizer.digest, vocab_size=tokenizer.vocab_size),
        data=None,
        imported_from=None if pretrained else imported_from,
        init_from=pretrained,
        assumptions=source.assumptions,
        settings=dict(source.settings) | {"computed_in": dtype},
        versions={name: version(name) for name in ("echoself-action", "torch", "tokenizers")}
        | {"python": platform.python_version()},
        evaluations=[],
        weights_sha256=digest,
    )


def _state(source: ImportedModel, digest: str) -> TrainingState:
    return TrainingState(
        sequences_seen=_sequences(source),
        schedule=_schedule(source),
        weights_sha256=digest,
        moments_sha256=None,  # hashing them would take as long as the rest of the import
        seed=_SEED,
        sequences_per_step=_sequences_per_step(source),
        dtype=str(source.settings.get("dtype", "float32")),
        data_digest="",
    )


def _schedule(source: ImportedModel) -> Schedule:
    """nanoGPT's schedule if ours has the same form, a warmup and a cosine decay to a tenth; otherwise one that has ended."""
    settings = source.settings
    try:
        peak, least = float(settings["learning_rate"]), float(settings["min_lr"])
        end, warmup = int(settings["lr_decay_iters"]), int(settings["warmup_iters"])
        same = settings["decay_lr"] is True and abs(least - FLOOR * peak) <= 1e-6 * peak and 0 <= warmup < end
    except (KeyError, ValueError, TypeError):
        same = False
    return cosine_schedule(0, end, warmup, peak) if same else cosine_schedule(0, source.step, 0, 0.0)


def _sequences_per_step(source: ImportedModel) -> int:
    counts = [source.settings.get(name) for name in ("batch_size", "gradient_accumulation_steps")]
    return counts[0] * counts[1] if all(type(count) is int and count > 0 for count in counts) else 0  # type: ignore[operator]


def _tokens(source: ImportedModel) -> int:
    return _sequences(source) * source.config.block_size


def _sequences(source: ImportedModel) -> int:
    return source.step * _sequences_per_step(source)
