"""The model card, written from the facts in training_metadata.json and the history through huggingface_hub's card classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import huggingface_hub

from ...checkpoint.metadata import Metadata, ParityFacts
from ...checkpoint.model_folder import ModelFolder
from ..history import Publish
from . import model_card_text as text
from .history_chart import perplexity
from .sections import SECTIONS, filled, has_sections, section, with_front_matter

# Until 0.1, a whole card of ours had this line; such a one is replaced whole.
OLD_MARKER = "<!-- Written by echoself-action at every publish. Delete this line to keep your own text. -->"
_HINT = """<!-- Written by echoself-action at every publish: what stands between a pair of echoself marks. All other text is
yours, and stays; a part whose marks you delete does not come back. -->"""


@dataclass(frozen=True)
class CardChoices:
    """What the card can't know from the model. `license` and `language` as the Hub names them; `documents` is the folder of
    the repo that has those of the corpus."""

    license: str | None = None
    language: Sequence[str] = ()
    documents: str | None = None


def model_card(
    repo_id: str,
    folder: ModelFolder,
    parity: ParityFacts,
    choices: CardChoices,
    history: Sequence[Publish] = (),
    kept: str | None = None,
) -> str:
    """The README.md of the repo: front matter that the Hub reads, and text for people.

    `kept` is a card or template in which only the marked parts are replaced; without it the card is ours, whole.
    `history` are the publishes, this one the last of them.
    """
    facts = folder.metadata
    parity = (facts and facts.parity) or parity
    last = history[-1] if history and facts and history[-1].weights_sha256 == facts.weights_sha256 else None
    sections = {
        "about": text.about(folder.config, folder.architecture),
        "use": text.use(repo_id, folder.config, folder.architecture),
        "results": text.results(facts, parity, history, last),
        "training": text.training(facts, choices.documents),
        "continue": text.going_on(repo_id, facts),
        "limits": text.LIMITS,
        "citation": text.citation(repo_id, history),
    }
    front = _front_matter(repo_id, folder, choices, last)
    if kept is None:
        parts = "\n\n".join(section(name, sections[name]) for name in SECTIONS)
        return with_front_matter(f"{_HINT}\n\n# {repo_id.split('/')[-1]}\n\n{parts}\n", front, ())
    given = [name for name, value in (("license", choices.license), ("language", choices.language)) if value]
    return with_front_matter(filled(kept, sections), front, ("model-index", *given))


def card_to_fill(published: str | None, template: str | None) -> tuple[bool, str | None]:
    """Whether the card may be written, and the text whose marked parts are to be filled (None: the card is ours, whole).

    A template beats what is published. A card without a mark of ours is a person's, and is left alone.
    """
    if template is not None:
        return True, template
    if published is None or OLD_MARKER in published:
        return True, None
    return has_sections(published), published


def _front_matter(repo_id: str, folder: ModelFolder, choices: CardChoices, last: Publish | None) -> dict[str, object]:
    data = huggingface_hub.ModelCardData(
        language=list(choices.language) or None,
        license=choices.license,
        datasets=[folder.metadata.dataset.repo_id] if folder.metadata and folder.metadata.dataset else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=[folder.architecture.name, "echoself-action"],
        model_name=repo_id.split("/")[-1],
        eval_results=_eval_results(folder.metadata, last),
    )
    return {key: value for key, value in data.to_dict().items() if value is not None}  # type: ignore[no-untyped-call]


def _eval_results(facts: Metadata | None, last: Publish | None) -> list[huggingface_hub.EvalResult] | None:
    """The figures that the Hub shows beside the card."""
    if not facts or not facts.data or facts.val_loss is None:
        return None
    figures = {
        "loss": ("Validation loss (nats per token)", facts.val_loss),
        "perplexity": ("Perplexity per token", perplexity(facts.val_loss)),
        "bits_per_byte": ("Bits per byte", last.bits_per_byte if last else None),
    }
    return [
        huggingface_hub.EvalResult(
            task_type="text-generation",
            task_name="Text Generation",
            dataset_type="held-out-documents",
            dataset_name="Held-out documents of the training corpus",
            dataset_args={"digest": facts.data.digest},
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 6),
        )
        for kind, (name, value) in figures.items()
        if value is not None
    ]
