"""The job summary: what happened in one line, the loss curve, the facts, a sample, and what to do next."""

from collections.abc import Sequence

from ..checkpoint.folder import ModelFolder
from ..checkpoint.metadata import ParityFacts, in_words
from ..evaluation.gate import Verdict
from ..hub.card_text import history_table
from ..hub.history import Publish
from ..hub.publish import Published
from ..hub.trend import FEWEST
from ..training.result import Result
from .text import code, indented

_POINTS = 40  # of a chart; more do not show
_ENDED = {
    "max_iters": "after all its steps",
    "max_minutes": "when its time was up",
    "signal": "when it was asked to stop",
}


def training_summary(result: Result, best: ModelFolder, text: str) -> str:
    """Markdown about a training run; `text` is a sample of the best model."""
    facts = best.metadata
    newest = result.latest.metadata
    assert facts
    assert facts.data
    assert newest
    rows = [
        ("Best model", f"step {facts.step:,}: {code(best.path)}"),
        ("Newest checkpoint", f"step {newest.step:,}: {code(result.latest.path)}"),
        ("Parameters", f"{facts.parameters:,}"),
        ("Tokens seen", f"{newest.tokens_seen:,}"),
        ("Speed", _speed(result)),
        ("Of that time", _shares(result)),
        ("Corpus", f"{facts.data.train_tokens:,} tokens, {facts.data.val_tokens:,} held out"),
        ("Tokenizer", f"{code(facts.tokenizer.name)}, {facts.tokenizer.vocab_size:,} entries"),
    ]
    sections = [
        f"## Trained from step {result.start_step:,} to {newest.step:,}: validation loss {loss_text(facts.val_loss)}",
        f"The run ended {_ENDED[result.stopped_by]}; everything is saved. {_next_step(result)}",
        _old_and_new(result, best),
        _chart("step", [(one.step, one.val_loss) for one in newest.evaluations]),
        _table("| | |", rows),
        f"The best model writes:\n\n{indented(text)}" if text else "",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _speed(result: Result) -> str:
    used = f" ({result.mfu:.0%} MFU)" if result.mfu else ""
    return f"{result.tokens_per_second:,.0f} tokens/s{used}, {result.elapsed_s / 60:.1f} minutes"


def _shares(result: Result) -> str:
    seconds = {"evaluations": result.evaluating_s, "saves": result.saving_s}
    if result.compiling_s:
        seconds["compiling"] = result.compiling_s
    return ", ".join(f"{name} {taken / result.elapsed_s:.1%}" for name, taken in seconds.items())


def publishing_summary(
    repo_url: str, published: Published, parity: ParityFacts, verdict: Verdict, history: Sequence[Publish] = ()
) -> str:
    """Markdown about a publish; `history` are all of the repo, this one included."""
    if not published.deployed:
        return f"## Nothing to publish: [{repo_url}]({repo_url}) already holds this model\n"
    rows = [(code(change.path), f"{change.size:,}") for change in published.changes]
    return (
        f"## Published to [{repo_url}]({repo_url})\n\n"
        f"Gate: {verdict.reason}.\n\n"
        f"Commit {code(published.commit)}. Loaded with stock transformers first: {in_words(parity)}.\n\n"
        f"{_table('| file | bytes |', rows)}\n\n"
        f"{_trend(history)}"
        f"Load it with `AutoModelForCausalLM.from_pretrained`, or go on training it with `mode: cycle`.\n"
    )


def refusal_summary(repo_url: str, verdict: Verdict) -> str:
    """Markdown about a model that the gate refused."""
    return (
        f"## Not published to [{repo_url}]({repo_url}): the gate said no\n\n"
        f"{indented(verdict.reason)}\n\nTrain it further, or give another `gate`; what is published stays as it is.\n"
    )


def pulling_summary(repo_url: str, revision: str, commit: str, folder: ModelFolder) -> str:
    """Markdown about a pull."""
    return (
        f"## Pulled step {folder.step:,} of [{repo_url}]({repo_url})\n\n"
        f"Revision {code(revision)} is commit {code(commit)}; it lies in {code(folder.path)}. "
        "Load it from there with transformers, or go on training it with `mode: train`.\n"
    )


def taking_in_summary(named: ModelFolder, folder: ModelFolder) -> str:
    """Markdown about a checkpoint that became a model folder in output_dir, with no Hub asked."""
    facts = folder.metadata
    origin = facts.imported_from.file if facts and facts.imported_from else named.path
    exact = f"Stock transformers against its own arithmetic: {in_words(facts.parity)}.\n\n" if facts and facts.parity else ""
    return (
        f"## Took in step {folder.step:,} of {code(origin)}\n\n{exact}"
        f"It lies in {code(folder.path)}. Load it from there with transformers, go on training it with `mode: train`, or "
        "publish it with `mode: deploy`.\n"
    )


def loss_text(loss: float | None) -> str:
    """A loss for people."""
    return "not evaluated" if loss is None else f"{loss:.4f}"


def _next_step(result: Result) -> str:
    if result.stopped_by == "max_iters":
        return "Run it again to go on training, or publish it with `mode: deploy`."
    return "Run it again to go on exactly there."


def _old_and_new(result: Result, best: ModelFolder) -> str:
    """The model that the run began with beside the best one now, on the same held-out text."""
    before, now = result.start_val_loss, best.metadata.val_loss if best.metadata else None
    if before is None or now is None:
        return ""
    rows = [("step", f"{result.start_step:,}", f"{best.step:,}", ""), ("validation loss", *_compared(before, now))]
    return _table("| | before | now | change |", rows)


def _compared(before: float, now: float) -> tuple[str, str, str]:
    return f"{before:.4f}", f"{now:.4f}", f"{now - before:+.4f}"


def _table(head: str, rows: Sequence[Sequence[str]]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|---" * columns + "|", *(f"| {' | '.join(row)} |" for row in rows)])


def _trend(history: Sequence[Publish]) -> str:
    """The publishes of the repo, as a chart and a table."""
    if len(history) < FEWEST:
        return ""
    points = [(number, publish.val_loss) for number, publish in enumerate(history, 1) if publish.val_loss is not None]
    return "\n\n".join(part for part in ("### History", _chart("publish", points), history_table(history)) if part) + "\n\n"


def _chart(x_axis: str, points: Sequence[tuple[int, float]]) -> str:
    """A Mermaid line chart of the held-out loss, which GitHub draws."""
    if len(points) < FEWEST:
        return ""
    stride = -(-len(points) // _POINTS)
    shown = points[::-1][::stride][::-1]  # the last one always shows
    lines = [
        "```mermaid",
        "xychart-beta",
        '    title "Validation loss"',
        f'    x-axis "{x_axis}" [{", ".join(str(x) for x, _ in shown)}]',
        '    y-axis "nats per token"',
        f"    line [{', '.join(f'{loss:.4f}' for _, loss in shown)}]",
        "```",
    ]
    return "\n".join(lines)
