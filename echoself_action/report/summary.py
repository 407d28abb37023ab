"""The job summary: what happened in one line, the loss curve, the facts, a sample, and what to do next."""

from ..checkpoint.folder import ModelFolder
from ..checkpoint.metadata import Evaluation
from ..hub.publish import Published
from ..training.loop import Result

_POINTS = 40  # of a chart; more do not show


def training_summary(result: Result, best: ModelFolder, text: str) -> str:
    """Markdown about a training run; `text` is a sample of the best model."""
    facts = best.metadata
    newest = result.latest.metadata
    assert facts
    assert newest
    before = "" if result.start_val_loss is None else f" (it began at {result.start_val_loss:.4f})"
    loss = loss_text(facts.val_loss) + before
    reasons = {"max_iters": "all its steps", "max_minutes": "its time", "signal": "being asked to stop"}
    rows = [
        ("Model", f"step {facts.step:,}, {facts.parameters:,} parameters, `{best.path}`"),
        ("Newest checkpoint", f"step {newest.step:,}, `{result.latest.path}`"),
        ("Speed", f"{result.tokens_per_second:,.0f} tokens/s, {result.elapsed_s / 60:.1f} minutes"),
        ("Corpus", f"{facts.data.train_tokens:,} tokens, {facts.data.val_tokens:,} held out"),
        ("Tokenizer", f"`{facts.tokenizer.name}`, {facts.tokenizer.vocab_size:,} entries"),
    ]
    return "\n".join(
        [
            f"## Trained from step {result.start_step:,} to {newest.step:,}: validation loss {loss}",
            "",
            f"The run ended after {reasons[result.stopped_by]}; everything is saved.",
            "",
            *_chart(newest.evaluations),
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows),
            "",
            *_quoted(text),
        ]
    )


def publishing_summary(repo_url: str, published: Published, parity_max_diff: float) -> str:
    """Markdown about a publish."""
    if not published.deployed:
        return f"## Nothing to publish: [{repo_url}]({repo_url}) already holds this model\n"
    size = sum(change.size for change in published.changes)
    files = ", ".join(f"`{change.path}`" for change in published.changes)
    return (
        f"## Published to [{repo_url}]({repo_url})\n\n"
        f"Commit `{published.commit}`: {len(published.changes)} files, {size:,} bytes ({files}).\n\n"
        f"Loaded with stock transformers first: largest difference of a logit {parity_max_diff:.1e}.\n"
    )


def pulling_summary(repo_url: str, revision: str, commit: str, folder: ModelFolder) -> str:
    """Markdown about a pull."""
    return (
        f"## Pulled step {folder.step:,} of [{repo_url}]({repo_url})\n\n"
        f"Revision `{revision}` is commit `{commit}`; it lies in `{folder.path}`.\n"
    )


def loss_text(loss: float | None) -> str:
    """A loss for people."""
    return "not evaluated" if loss is None else f"{loss:.4f}"


def _chart(evaluations: list[Evaluation]) -> list[str]:
    """A Mermaid line chart of the held-out loss, which GitHub draws."""
    if len(evaluations) < 2:
        return []
    stride = -(-len(evaluations) // _POINTS)
    shown = evaluations[::-1][::stride][::-1]  # the last one always shows
    steps = ", ".join(str(evaluation.step) for evaluation in shown)
    losses = ", ".join(f"{evaluation.val_loss:.4f}" for evaluation in shown)
    return [
        "```mermaid",
        "xychart-beta",
        '    title "Validation loss"',
        f'    x-axis "step" [{steps}]',
        '    y-axis "nats per token"',
        f"    line [{losses}]",
        "```",
        "",
    ]


def _quoted(text: str) -> list[str]:
    """A sample as an indented block: no text can end it."""
    if not text:
        return []
    return ["A sample of the model:", "", *(f"    {line}" for line in text.splitlines()), ""]
