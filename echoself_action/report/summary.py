"""Markdown for readers: the job summary of a run, and the descriptions of a release and of a pull request on the Hub."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..checkpoint.metadata import Metadata, ParityFacts, in_words
from ..checkpoint.model_folder import ModelFolder
from ..errors import EXIT_CODES
from ..evaluation.gate import Verdict
from ..hub.cards.history_chart import FEWEST
from ..hub.cards.model_card_text import history_table
from ..hub.history import Publish
from ..hub.publish import Change, Published
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


def models_summary(models: Mapping[str, Any], codes: Mapping[str, int], outputs: Mapping[str, Mapping[str, str]]) -> str:
    """Markdown: a line a model. `codes` are the exit codes of those that ran, `outputs` what they gave."""
    failed = sum(codes.get(name, -1) != 0 for name in models)
    said = f"{failed} of {len(models)} not done" if failed else f"all {len(models)} done"
    lines = ["| model | end | step | validation loss | gate | published |", "|---|---|---|---|---|---|"]
    for name in models:
        given = outputs.get(name, {})
        ended = EXIT_CODES.get(codes[name], f"exit code {codes[name]}") if name in codes else "not run"
        step, gate = given.get("step", ""), given.get("gate_result", "")
        row = [code(name), ended, step, given.get("val_loss", ""), gate, _published(given)]
        lines.append(f"| {' | '.join(row)} |")
    return f"# Models: {said}\n\n" + "\n".join(lines) + "\n"


def _published(outputs: Mapping[str, str]) -> str:
    url, commit = outputs.get("repo_url", ""), outputs.get("commit_sha", "")
    if not url or outputs.get("deployed") not in ("true", "false") or not commit:
        return ""
    what = "new" if outputs["deployed"] == "true" else "unchanged"
    return f"[{what}: {commit[:7]}]({url}/commit/{commit})"


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


def release_text(repo_url: str, tag: str, commit_url: str, model: ModelFolder, gate: str) -> str:
    """Markdown, with a link to the commit on the Hub."""
    facts = model.metadata
    rows = [("step", f"{model.step:,}"), ("architecture", model.architecture)]
    if facts:
        if facts.val_loss is not None:
            rows.append(
                ("validation loss", f"{facts.val_loss:.4f} nats per token (perplexity {math.exp(facts.val_loss):,.2f})")
            )
        if facts.train_loss is not None:
            rows.append(("training loss", f"{facts.train_loss:.4f} nats per token"))
        rows += [("parameters", f"{facts.parameters:,}"), ("tokens seen", f"{facts.tokens_seen:,}")]
        rows.append(("tokenizer", facts.tokenizer.name))
    repo_id = "/".join(repo_url.split("/")[-2:])
    trust = "" if model.architecture == "gpt2" else ", trust_remote_code=True"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        f"[{repo_id}]({repo_url}) at [{commit_url.rpartition('/')[2][:12]}]({commit_url}), tagged `{tag}` there too.\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"Gate: {gate}.\n\n"
        "```python\nfrom transformers import AutoModelForCausalLM\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{repo_id}", revision="{tag}"{trust})\n```\n'
    )
