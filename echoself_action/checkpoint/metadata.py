"""training_metadata.json: how a model was trained. Model cards, job summaries and later runs are based on it."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from ..corpus import ppmd
from ..corpus.leaks import COMMON
from .architectures import ArchitectureName
from .atomic import new_file
from .curriculum_facts import CurriculumFacts
from .facts import Facts
from .fidelity_facts import FidelityFacts
from .introspection_facts import IntrospectionFacts
from .question_facts import QuestionFacts

METADATA_FILE = "training_metadata.json"
BITS_PER_BYTE, NATS_PER_TOKEN = "bits per byte", "nats per token"
BITS_PER_BYTE_MEANING = (
    "Bits per byte: how many bits the model needs, on average, for each byte of the held-out text, which is not used for "
    "training. Guessing takes 8; lower is better. Models with different tokenizers can be compared."
)
Ending = Literal["published", "advanced", "rolled_back", "converged"]
"""The end of a job. published: a better model. advanced: the training state moved on, and the model is not significantly better
yet. rolled_back: the run made the model worse, and the next one takes another way. converged: nothing was trained, because
earlier runs on the same corpus gained nothing."""


class TokenizerFacts(Facts):
    """`name` is its spec (`gpt2`, `bpe:1024`, ...), `digest` a hash of everything that determines its ids."""

    name: str
    digest: str
    vocab_size: int


class DataFacts(Facts):
    """The corpus of the last run.

    `val_digest` identifies its held-out text as token ids: losses of models with the same one are comparable. `leaked_bytes` is
    the text that was left out of training because it is also held out, `common_bytes` the held-out text that is too common in
    the training text to be left out there. Of the `compared_tokens` held-out ids of token files, `repeated_tokens` are in the
    training ids too, `common_tokens` of them with many copies there (corpus/repeated_windows.py); None for other files.
    `ppmd_bits_per_byte` is what a general compressor needs for the held-out text (corpus/ppmd.py), None for a large corpus.
    All are None for older models.
    """

    digest: str
    val_digest: str | None = None
    patterns: list[str]
    documents: int | None = None
    val_documents: int | None = None
    train_tokens: int
    val_tokens: int
    leaked_bytes: int | None = None
    common_bytes: int | None = None
    compared_tokens: int | None = None
    repeated_tokens: int | None = None
    common_tokens: int | None = None
    ppmd_bits_per_byte: float | None = None


class DatasetFacts(Facts):
    """The dataset repo with the documents of the corpus, at the commit that has exactly these documents."""

    repo_id: str
    commit: str

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.commit}"


class ImportFacts(Facts):
    """The source of an imported model, which all checkpoints of its run keep. `remarks` are warnings for its users.

    `optimizer_notes` say why its optimizer state was not imported, or what about it is not as it was. `step`, `tokens_seen` and
    the losses (nats per token) are what it records about its training up to there, None if it records none. Its losses were
    measured by another program on another text.
    """

    layout: str
    file: str
    fingerprint: str
    remarks: list[str] = Field(default_factory=list)
    optimizer_notes: list[str] = Field(default_factory=list)
    step: int | None = None
    tokens_seen: int | None = None
    train_loss: float | None = None
    val_loss: float | None = None

    def __str__(self) -> str:
        return f"{self.file} ({self.layout})" if self.file else self.layout


class PretrainedFacts(Facts):
    """The pretrained model that a run was initialised from (input `init_from`).

    `source` is a repo on the Hub, at `commit`, or the name of a file or folder. `block_size` is its own context length, of
    which a model may keep only the first positions. `remarks` are warnings for users of the model.
    """

    source: str
    commit: str | None = None
    block_size: int
    remarks: list[str] = Field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.source}@{self.commit[:12]}" if self.commit else self.source


class ParityFacts(Facts):
    """The result of the parity check: stock transformers loaded all tensors, and its logits were compared with ours.

    For an imported model they were compared with the original program's computation.
    """

    tensors: int
    max_abs_diff: float
    argmax_agreement: float
    positions: int


class ExportFacts(Facts):
    """A file that the model was exported to, and how the runtime it is for computes it, measured before it was published.

    `file` is its path in the repo, `size` in bytes, `runtime` the program with its version. Its logits were compared with
    ours at `positions` positions: `max_abs_diff` is the largest difference, `argmax_agreement` the share of the positions
    with the same most likely token; two tokens whose logits are equal up to rounding count as the same. `texts` texts have the
    same token ids there. `bits_per_byte_change` is what its logits add to the loss on held-out text, None without such text.
    `notes` are differences that its users should know.
    """

    format: str
    file: str
    sha256: str
    size: int
    runtime: str
    max_abs_diff: float
    argmax_agreement: float
    positions: int
    texts: int
    bits_per_byte_change: float | None = None
    notes: tuple[str, ...] = ()


class Comparison(Facts):
    """The comparison of a model with the previously published one, at the commit `against`, on the same held-out text.

    `candidate` and `published` are losses in `unit`, which is bits per byte; earlier versions compared in nats per token. `low`
    and `high` are the bounds of the 95 % confidence interval of their difference. `candidate_nats` and `published_nats` are in
    nats per token, None if the tokenizers differ.
    """

    against: str
    candidate: float
    published: float
    low: float
    high: float
    unit: str
    windows: int
    tokens: int
    candidate_nats: float | None = None
    published_nats: float | None = None


class Sample(Facts):
    """A generated text: the `prompt`, and what the model continued it with.

    `from_corpus`: the prompt is the start of a held-out document. Otherwise no text of the corpus was at hand.
    """

    prompt: str
    continuation: str = ""
    from_corpus: bool = False

    @property
    def text(self) -> str:
        return self.prompt + self.continuation


class Evaluation(Facts):
    """One evaluation: the held-out loss at a step, and the mean training loss since the last one, in nats per token."""

    step: int
    train_loss: float | None = None
    val_loss: float


class Metadata(Facts):
    """Facts about a checkpoint. Losses are in nats per token. `bits_per_byte` is the validation loss in the unit that does not
    depend on the tokenizer; `bytes_per_token`, the mean size of a predicted held-out token, converts losses to it, and is None
    for models of other programs and of earlier versions. `train_loss` is the mean over the steps before the checkpoint (see
    training/meters.py). `tokens_per_second` is the training speed of the run that wrote it: tokens of its steps by the time of
    these steps, without evaluations, saves and compiling.

    `run_id` is the same for all checkpoints of a model.

    `branched_from` is the step at which the decay phase of the learning rate started, and from whose checkpoint training
    resumes; `branch_end` the step at which the learning rate reaches 0. Both are None in the stable phase. `imported_from` is
    the model of another program that the run continues. `init_from` is the pretrained model that step 0 was, None if step 0 had
    random weights. `assumptions` are about the forward pass of an imported model, where its file states nothing. All
    checkpoints of a run keep these three. Of the import itself (`is_import`) `data` and the losses are None, and `settings` are
    those that the file records. `versions` are of the program that wrote the checkpoint. `dataset` is the published copy of the
    documents of `data`. `device` is the name of the device it was trained on. `parity` is None before the parity check.
    `sample` is a text generated by the model, None before the end of the run. `questions` are its scores on the questions of
    `evaluate`, None without that input. `introspection` are figures of its attention and its paths, None if they were not
    measured; `fidelity` is its echo fidelity, with `evaluate: echo-fidelity`. `exports` are the files for other runtimes that
    were published with the model, `export_extras` the sha256 of the files that come with them, such as a Modelfile.
    `curriculum` has the phases of the training (input `phases`), None without.
    """

    format: Literal["echoself/1"] = "echoself/1"
    run_id: str
    step: int
    tokens_seen: int
    elapsed_s: float
    train_loss: float | None
    val_loss: float | None
    best_val_loss: float | None
    best_step: int | None
    bytes_per_token: float | None = None
    tokens_per_second: float | None = None
    architecture: ArchitectureName = "gpt2"
    parameters: int
    tokenizer: TokenizerFacts
    data: DataFacts | None
    dataset: DatasetFacts | None = None
    imported_from: ImportFacts | None = None
    init_from: PretrainedFacts | None = None
    assumptions: tuple[str, ...] = ()
    parity: ParityFacts | None = None
    settings: dict[str, Any]
    versions: dict[str, str]
    device: str | None = None
    evaluations: list[Evaluation]
    compared: Comparison | None = None
    sample: Sample | None = None
    questions: QuestionFacts | None = None
    introspection: IntrospectionFacts | None = None
    fidelity: FidelityFacts | None = None
    exports: tuple[ExportFacts, ...] = ()
    export_extras: dict[str, str] = Field(default_factory=dict)
    curriculum: CurriculumFacts | None = None
    branched_from: int | None = None
    branch_end: int | None = None
    weights_sha256: str

    @model_validator(mode="before")
    @classmethod
    def _losses_of_import(cls, values: Any) -> Any:
        """Older versions recorded the step and the losses of an imported file as those of the run."""
        origin = values.get("imported_from") if isinstance(values, dict) else None
        if not isinstance(origin, dict) or "step" in origin or values.get("data"):
            return values
        losses = {"train_loss": values.get("train_loss"), "val_loss": values.get("best_val_loss")}
        before = {"step": values.get("step"), "tokens_seen": values.get("tokens_seen") or None}
        return values | {"train_loss": None, "best_val_loss": None, "imported_from": origin | before | losses}

    @property
    def is_import(self) -> bool:
        """Whether another program trained exactly these weights: no step was taken since the import."""
        return self.imported_from is not None and self.data is None

    @property
    def steps_before(self) -> int:
        """The steps that another program took before the import."""
        return 0 if self.imported_from is None else self.step if self.is_import else self.imported_from.step or 0

    @property
    def is_trained_here(self) -> bool:
        """Whether this program has taken a step."""
        return self.step > self.steps_before

    @property
    def exported_losses(self) -> tuple[float | None, float | None]:
        """(training loss, lowest validation loss) for a file of another program: an import keeps what its file records."""
        if self.is_import and self.imported_from:
            return self.imported_from.train_loss, self.imported_from.val_loss
        return self.train_loss, self.best_val_loss

    @property
    def bits_per_byte(self) -> float | None:
        """`val_loss` in bits per byte."""
        return bits_per_byte(self.val_loss, self.bytes_per_token)

    @property
    def best_bits_per_byte(self) -> float | None:
        """`best_val_loss` in bits per byte."""
        return bits_per_byte(self.best_val_loss, self.bytes_per_token)

    def is_measured_on(self, data_digest: str, val_digest: str | None, eval_tokens: object) -> bool:
        """Whether its losses are on the same held-out text as those of another run, and so can be compared with them.

        The training text may differ where both record the digest of the held-out text. Otherwise the corpus must be the same.
        """
        if self.data is None:
            return False
        if self.data.val_digest and val_digest:
            return self.data.val_digest == val_digest and self.settings.get("eval_tokens") == eval_tokens
        return self.data.digest == data_digest

    @property
    def val_loss_text(self) -> str:
        """`val_loss`, for logs, titles and summaries."""
        return loss_text(self.val_loss, self.bytes_per_token)

    def write(self, folder: Path) -> None:
        with new_file(folder / METADATA_FILE) as file:
            file.write(self.model_dump_json(indent=2).encode() + b"\n")


def bits_per_byte(nats_per_token: float | None, bytes_per_token: float | None) -> float | None:
    """A loss in bits per byte of the text; None if the loss, or the mean size of its tokens, is unknown."""
    return None if nats_per_token is None or not bytes_per_token else nats_per_token / math.log(2) / bytes_per_token


def loss_text(nats_per_token: float | None, bytes_per_token: float | None) -> str:
    """A held-out loss for logs, titles and summaries: in bits per byte, with nats per token beside it."""
    if nats_per_token is None:
        return "not evaluated"
    nats, bits = f"{nats_per_token:.4f} nats per token", bits_per_byte(nats_per_token, bytes_per_token)
    return nats if bits is None else f"{bits:.4f} {BITS_PER_BYTE} ({nats})"


def read_metadata(folder: Path) -> Metadata | None:
    """The metadata of `folder`; None if it has none of this program (a stock model, another tool's metadata)."""
    try:
        return Metadata.model_validate_json((folder / METADATA_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def leaks_text(data: DataFacts) -> str:
    """What is in both the held-out and the training text, in one line; empty if nothing is, or nothing is known."""
    parts = []
    if data.repeated_tokens and data.compared_tokens:
        parts.append(repeated_text(data.repeated_tokens, data.compared_tokens, data.common_tokens or 0))
    if data.leaked_bytes:
        parts.append(f"{data.leaked_bytes:,} bytes were left out of training, because they are in the held-out text too")
    if data.common_bytes:
        parts.append(f"{data.common_bytes:,} bytes of the held-out text are common in the training text, and were not left out")
    return "; ".join(parts)


def repeated_text(repeated: int, compared: int, common: int) -> str:
    """What token files hold out and train on too, in one line."""
    share = f"{repeated / compared:.1%} of the held-out tokens ({repeated:,})"
    if repeated == compared:
        share = f"all {compared:,} held-out tokens"
    measures = "memory" if repeated > compared / 2 else "in part memory"
    often = f", {common / compared:.1%} with {COMMON} or more copies" if common else ""
    return f"{share} are in the training tokens too{often}: the validation loss measures {measures}"


def ppmd_text(data: DataFacts | None) -> str:
    """What PPMd needs for the held-out text, in one sentence; empty if it is not known."""
    if data is None or data.ppmd_bits_per_byte is None:
        return ""
    return (
        f"{ppmd.NAME}, needs {data.ppmd_bits_per_byte:.4f} bits per byte for the held-out text after it has read the same "
        "training text. It also learns from the held-out text as it reads it, which the model does not."
    )


def parity_text(parity: ParityFacts) -> str:
    """The result of the parity check in one line, for logs, summaries and cards."""
    return (
        f"all {parity.tensors} tensors match; max absolute logit difference {parity.max_abs_diff:.1e}, top-1 agreement "
        f"{parity.argmax_agreement:.0%} at {parity.positions} positions"
    )


def export_text(facts: ExportFacts) -> str:
    """A file for another runtime and how that computes it, in one line for logs and summaries."""
    change = f", {cost} {BITS_PER_BYTE}" if (cost := export_cost(facts)) else ""
    return (
        f"{facts.file}, {facts.size:,} bytes; in {facts.runtime}: max absolute logit difference {facts.max_abs_diff:.1e}, "
        f"top-1 agreement {facts.argmax_agreement:.1%} at {facts.positions} positions{change}, equal token ids for "
        f"{facts.texts:,} texts"
    )


def export_cost(facts: ExportFacts) -> str:
    """What a file adds to the bits per byte of the model, "" if it is not known."""
    change = facts.bits_per_byte_change
    return "" if change is None else f"{round(change, 4) + 0.0:+.4f}"  # + 0.0: no minus before zero


def export_notes(exports: Iterable[ExportFacts]) -> list[str]:
    """What users of these files should know, each once."""
    return list(dict.fromkeys(note for facts in exports for note in facts.notes))
