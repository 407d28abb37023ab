"""Markdown that describes a model elsewhere: a pull request on the Hub, a release on GitHub."""

from collections.abc import Sequence

from ..checkpoint.metadata import Metadata, ParityFacts, parity_text
from ..checkpoint.model_folder import ModelFolder
from ..evaluation.gate import Verdict
from ..hub.cards.history_chart import perplexity
from ..hub.cards.origin import origin_rows, tokens_seen_text
from ..hub.publish import Change
from ..markdown import code, escaped, number, table

_COMPARED = {
    "step": "Step",
    "bits_per_byte": "Bits per byte",
    "val_loss": "Validation loss, nats per token",
    "train_loss": "Training loss, nats per token",
    "tokens_seen": "Tokens seen",
    "parameters": "Parameters",
}


def pull_request_description(
    gate: str,
    verdict: Verdict,
    parity: ParityFacts,
    planned: tuple[Change, ...],
    published: Metadata | None,
    proposed: Metadata | None,
    removed: Sequence[str] = (),
) -> str:
    """Markdown for a pull request on the Hub. `published` and `proposed` are the two models' metadata, None if unknown."""
    rows = [_row(name, published, proposed) for name in _COMPARED]
    files = [(code(change.path), "new" if change.is_new else "changed", f"{change.size:,}") for change in planned]
    files += [(code(name), "removed", "") for name in removed]
    origin = origin_rows(proposed)
    parts = [
        f"**Gate {code(gate)}:** {verdict.full_reason}.",
        table(("Figure", "published", "proposed", "change"), rows),
        table(("Origin", "Value"), [(label, escaped(text)) for label, text in origin]) if origin else "",
        f"Checked before upload with stock transformers: {parity_text(parity)}.",
        table(("File", "change", "bytes"), files),
        "Opened by [echoself-action](https://github.com/9cog/echoself-action) with `create_pr`.",
    ]
    return "\n\n".join(part for part in parts if part)


def release_notes(repo_url: str, tag: str, commit_url: str, model: ModelFolder, gate: str) -> str:
    """Markdown for a release on GitHub, with a link to the model's commit on the Hub."""
    facts = model.metadata
    rows = [("step", f"{model.step:,}"), ("architecture", model.architecture.name)]
    if facts:
        if facts.val_loss is not None:
            rows.append(("validation loss", facts.val_loss_text))
            rows.append(("perplexity per token", number(perplexity(facts.val_loss), 2)))
        if facts.train_loss is not None:
            rows.append(("training loss", f"{facts.train_loss:.4f} nats per token"))
        rows += [(label.lower(), escaped(value)) for label, value in origin_rows(facts)]
        rows += [("parameters", f"{facts.parameters:,}"), ("tokens seen", tokens_seen_text(facts))]
        rows.append(("tokenizer", facts.tokenizer.name))
        if facts.tokens_per_second:
            rows.append(("training speed", f"{facts.tokens_per_second:,.0f} tokens/s"))
    repo_id = "/".join(repo_url.split("/")[-2:])
    trust = model.architecture.trust_argument
    return (
        f"[{repo_id}]({repo_url}) at [{commit_url.rpartition('/')[2][:12]}]({commit_url}), also tagged `{tag}` on the Hub.\n\n"
        f"{table(('Fact', 'value'), [row for row in rows if row[1]])}\n\n"
        f"Gate: {gate}.\n\n"
        "```python\nfrom transformers import AutoModelForCausalLM\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{repo_id}", revision="{tag}"{trust})\n```\n'
    )


def _row(name: str, published: Metadata | None, proposed: Metadata | None) -> tuple[str, str, str, str]:
    before, now = getattr(published, name, None), getattr(proposed, name, None)
    if name == "tokens_seen":
        before, now = before or None, now or None  # 0 of an import: unknown
    change = "" if before is None or now is None else _figure(now - before, "+")
    return _COMPARED[name], _figure(before), _figure(now), change


def _figure(value: float | None, sign: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:{sign}.4f}" if isinstance(value, float) else f"{value:{sign},}"
