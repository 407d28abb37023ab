"""The text of a pull request on the Hub: what the gate said, what it would change, and how the results differ."""

from ..checkpoint.metadata import Metadata, ParityFacts, in_words
from ..evaluation.gate import Verdict
from ..hub.publish import Change
from .text import code


def proposal_text(
    gate: str,
    verdict: Verdict,
    parity: ParityFacts,
    planned: tuple[Change, ...],
    published: Metadata | None,
    proposed: Metadata | None,
) -> str:
    """Markdown; `published` and `proposed` are the facts of the two models, None where nobody knows them."""
    files = [f"| {code(change.path)} | {'new' if change.is_new else 'changed'} | {change.size:,} |" for change in planned]
    return "\n".join(
        [
            f"**Gate {code(gate)}:** {verdict.reason}.",
            "",
            "| | published | proposed | change |",
            "|---|---|---|---|",
            *(_row(name, published, proposed) for name in _RESULTS),
            "",
            f"Loaded with stock transformers before this was sent: {in_words(parity)}.",
            "",
            "| file | | bytes |",
            "|---|---|---|",
            *files,
            "",
            "Opened by [echoself-action](https://github.com/9cog/echoself-action) with `create_pr`.",
        ]
    )


def proposal_summary(repo_url: str, pr_url: str, text: str) -> str:
    """Markdown for the job summary."""
    if not pr_url:
        return f"## Nothing to propose: [{repo_url}]({repo_url}) already holds this model\n"
    return f"## Proposed to [{repo_url}]({repo_url}): [pull request]({pr_url})\n\n{text}\n"


_RESULTS = {
    "step": "Step",
    "tokens_seen": "Tokens seen",
    "parameters": "Parameters",
    "train_loss": "Training loss",
    "val_loss": "Validation loss",
}


def _row(name: str, published: Metadata | None, proposed: Metadata | None) -> str:
    before, now = getattr(published, name, None), getattr(proposed, name, None)
    change = "" if before is None or now is None else _figure(now - before, "+")
    return f"| {_RESULTS[name]} | {_figure(before)} | {_figure(now)} | {change} |"


def _figure(value: float | None, sign: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:{sign}.4f}" if isinstance(value, float) else f"{value:{sign},}"
