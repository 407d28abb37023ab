"""training_metadata.json: how a model was made. The model card, the summary and the next run are written from it."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from .architectures import ArchitectureName
from .atomic import new_file

METADATA_FILE = "training_metadata.json"


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)  # --help needs none


class TokenizerFacts(_Facts):
    """`name` is the spec that made it (`gpt2`, `bpe:1024`, ...), `digest` what determines its ids."""

    name: str
    digest: str
    vocab_size: int


class DataFacts(_Facts):
    """The corpus of the last run. Sizes are tokens."""

    digest: str
    patterns: list[str]
    documents: int | None = None
    val_documents: int | None = None
    train_tokens: int
    val_tokens: int


class DatasetFacts(_Facts):
    """The dataset repo that holds the documents of that corpus, at the commit that has exactly them."""

    repo_id: str
    commit: str

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.commit}"


class ImportFacts(_Facts):
    """Where an imported model came from. `remarks` are what whoever uses it has to know."""

    layout: str
    file: str
    fingerprint: str
    remarks: list[str] = []


class ParityFacts(_Facts):
    """What stock transformers made of these files: tensors that it loaded (none missing, none left over), and its logits.

    They are compared with the trainer's; of an imported model, with those of the source's own arithmetic.
    """

    tensors: int
    max_abs_diff: float
    argmax_agreement: float
    positions: int


class Comparison(_Facts):
    """A model beside the one that was published before it, at `against` (a commit), on the same held-out text.

    `candidate` and `published` are losses in `unit`; `low` to `high` is the 95% interval of their difference.
    """

    against: str
    candidate: float
    published: float
    low: float
    high: float
    unit: str
    windows: int
    tokens: int


class Evaluation(_Facts):
    """One evaluation: held-out loss at a step, beside the training loss since the one before. Nats per token."""

    step: int
    train_loss: float | None = None
    val_loss: float


class Metadata(_Facts):
    """Facts about a checkpoint. `run_id` stays the same over all continuations of a model; losses are nats per token.

    `branched_from` is the step at which its learning rate began to fall, to nothing at step `branch_end`: training goes on
    from the checkpoint of that step. `imported_from` is where a model came from that was not trained here; nobody knows its
    `data`. `dataset` is where the documents of `data` are published. `device` is what it was trained on, by name. `parity` is
    there once the folder was held to what transformers computes from it.
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
    architecture: ArchitectureName = "gpt2"
    parameters: int
    tokenizer: TokenizerFacts
    data: DataFacts | None
    dataset: DatasetFacts | None = None
    imported_from: ImportFacts | None = None
    parity: ParityFacts | None = None
    settings: dict[str, Any]
    versions: dict[str, str]
    device: str | None = None
    evaluations: list[Evaluation]
    compared: Comparison | None = None
    branched_from: int | None = None
    branch_end: int | None = None
    weights_sha256: str

    def write(self, folder: Path) -> None:
        with new_file(folder / METADATA_FILE) as file:
            file.write(self.model_dump_json(indent=2).encode() + b"\n")


def read_metadata(folder: Path) -> Metadata | None:
    """The facts in `folder`, or None where it has none of ours (a stock model, another tool's metadata)."""
    try:
        return Metadata.model_validate_json((folder / METADATA_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def parity_text(parity: ParityFacts) -> str:
    """One line for logs, summaries and cards."""
    return (
        f"all {parity.tensors} tensors match; max absolute logit difference {parity.max_abs_diff:.1e}, top-1 agreement "
        f"{parity.argmax_agreement:.0%} at {parity.positions} positions"
    )
