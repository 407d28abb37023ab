"""The card of a model's Space: front matter that makes it a static Space of the model, and a description."""

from ...markdown import code
from .model_card import CardChoices
from .model_card_text import ACTION_URL
from .sections import filled, section, with_front_matter

APP_FILE = "index.html"
_PART = "demo"
_LONGEST = 60  # characters of a short_description on the Hub
_WHAT = "Write with {} in your browser"


def space_card(model_id: str, choices: CardChoices, kept: str | None = None) -> str:
    """The README.md. `kept` is a card of which only the marked section and what makes the Space work are replaced.

    It has no figures of the model: those are on the page, and the card is the same for every publish.
    """
    front = _front_matter(model_id, choices)
    if kept is None:
        return with_front_matter(f"# {front['title']}\n\n{section(_PART, _about(model_id))}\n", front, ())
    return with_front_matter(filled(kept, {_PART: _about(model_id)}), front, ("sdk", "app_file", *choices.decided))


def _front_matter(model_id: str, choices: CardChoices) -> dict[str, object]:
    name = model_id.split("/")[-1]
    described = _WHAT.format(name)
    license_fields = {key: value for key, value in choices.front_matter.items() if key.startswith("license")}
    return {
        "title": name,
        "emoji": "📝",
        "colorFrom": "blue",
        "colorTo": "green",
        "sdk": "static",
        "app_file": APP_FILE,
        "models": [model_id],
        "tags": ["echoself-action"],
        "short_description": described if len(described) <= _LONGEST else _WHAT.format("a small model"),
        **license_fields,
    }


def _about(model_id: str) -> str:
    return f"""This page runs the model {code(model_id)} in the browser, with
[transformers.js](https://huggingface.co/docs/transformers.js). The text that you write is sent nowhere.

[echoself-action]({ACTION_URL}) updates it with each publish of the model."""
