"""What is told of a model where it is published: the card and the history, which go with it in one commit; and the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..checkpoint.folder import ModelFolder
from ..checkpoint.metadata import ParityFacts
from ..hub.card import CardChoices, card_to_fill, model_card
from ..hub.client import Hub
from ..hub.history import History, Publish, fetch_history, publish_of
from ..hub.provenance import this_run
from ..hub.publish import read_card
from ..hub.repo import Remote
from ..hub.secrets import without_secrets
from ..hub.trend import history_files
from ..inputs import Inputs
from ..report.log import note
from ..report.page import Publishing, write_page
from ..training.result import LOG_FILE
from .gate import is_published


@dataclass(frozen=True)
class Account:
    """What is published beside the model: a card, None where it is a person's; the files of the history, where it has grown;
    and the publishes, this one included."""

    card: str | None
    history_files: dict[str, bytes]
    history: Sequence[Publish]


def account_of(
    inputs: Inputs, hub: Hub, remote: Remote, model: ModelFolder, parity: ParityFacts, documents: str | None
) -> Account:
    """Card and history on top of what `remote` holds; `documents` is the folder of the repo that has them.

    Weights that are published already make no new line.
    """
    history = fetch_history(hub, remote)
    files: dict[str, bytes] = {}
    if not is_published(model, remote) and (publish := _publish(model, history)):
        history = history.followed_by(publish)
        files = history_files(history, model.metadata)
    may_write, kept = card_to_fill(read_card(hub, remote), _template(inputs))
    if not may_write:
        note("the model card on the Hub was written by a person, and is left as it is")
        return Account(None, files, history.publishes)
    choices = CardChoices(inputs.license, inputs.language or (), documents)
    card = model_card(remote.repo_id, model, parity, choices, history.publishes, kept)
    return Account(card, files, history.publishes)


def write_report(inputs: Inputs, model: ModelFolder, text: str | None, publishing: Publishing | None = None) -> dict[str, str]:
    """Write the page about `model`; `text` is a sample of it, None where none was drawn yet. Returns the output."""
    if text is None:
        from ..corpus.tokenizer import load_tokenizer  # with what loads PyTorch: a sample is drawn from a loaded model
        from ..evaluation.samples import sample

        text = without_secrets(sample(model.load_model(), load_tokenizer(model.path)))
    path = write_page(inputs.output_dir, inputs.output_dir / LOG_FILE, model, [text], publishing)
    return {"report": str(path)}


def _publish(model: ModelFolder, history: History) -> Publish | None:
    return publish_of(model, history, this_run(), _bits_per_byte(model), datetime.now(UTC))


def _bits_per_byte(model: ModelFolder) -> float | None:
    """By the held-out text that lies with the checkpoint; None where that is not known."""
    from ..corpus.tokenizer import load_tokenizer  # a model that is published already is not measured again
    from ..evaluation.bits import bits_per_byte
    from ..training.held_out import read_held_out

    loss, windows = model.metadata.val_loss if model.metadata else None, read_held_out(model.path)
    if loss is None or not windows:
        return None
    return bits_per_byte(loss, load_tokenizer(model.path), windows)


def _template(inputs: Inputs) -> str | None:
    return Path(inputs.card).read_text(encoding="utf-8", errors="replace") if inputs.card else None
