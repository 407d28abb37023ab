"""The summary of a comparison of models."""

from collections.abc import Sequence
from pathlib import Path

from ...checkpoint.metadata import BITS_PER_BYTE, Sample
from ...corpus.findings import Finding
from ...evaluation.ranking import RankedModel, Ranking
from ...markdown import code, prose, table
from ..comparison import against_first, figures, on_questions, prompt_title, verdict
from . import run_details as details
from .layout import Folded, JobSummary, quoted, sentence


def compare_summary(ranking: Ranking, page: Path, findings: Sequence[Finding] = (), tag: str = "") -> JobSummary:
    """The models of `ranking`. `page` is the path of compare.html, `tag` is the tag that the winner has now."""
    best = ranking.winner or min(ranking.models, key=lambda model: model.scores.bits_per_byte)
    return JobSummary(
        title=f"{verdict(ranking)}: {_numbers(ranking)}",
        lead=[
            _table(ranking),
            f"Held-out text: {code(ranking.held_out)}. Bits per byte: lower is better.",
            *map(prose, map(sentence, on_questions(ranking))),
        ],
        warnings=details.losses_of_corpus(findings),
        sample=_sample(ranking, best),
        next_step=_next_step(ranking, best, tag),
        folded=[
            Folded("Figures", _figures(ranking)),
            Folded("Corpus", details.corpus(None, findings)),
            *(
                Folded(f"Samples, prompt: {prompt_title(prompt)}", _texts(ranking, number))
                for number, prompt in enumerate(ranking.prompts)
            ),
            Folded("Files of this job", f"Report: {code(page)}; upload it as an artifact to view it."),
        ],
    )


def _numbers(ranking: Ranking) -> str:
    """Bits per byte of the first model, and of the best other one."""
    first, *others = ranking.models
    now = min(others, key=lambda model: model.scores.bits_per_byte)
    return f"{first.scores.bits_per_byte:.4f} \N{RIGHTWARDS ARROW} {now.scores.bits_per_byte:.4f} {BITS_PER_BYTE}"


def _table(ranking: Ranking) -> str:
    """A row for each model: its number, and its difference from the first."""
    first, *others = ranking.models
    rows = [(code(first.name), f"{first.scores.bits_per_byte:.4f}", "")]
    for model, (_, relation, found) in zip(others, against_first(ranking), strict=True):
        relation = relation.removesuffix(f" {first.name}").removesuffix(" than").removesuffix(" from")
        interval = f"{found.mean:+.4f} (95 % CI {found.low:+.4f} to {found.high:+.4f})"
        rows.append((code(model.name), f"{model.scores.bits_per_byte:.4f}", f"{relation}: {interval}"))
    return table(("model", BITS_PER_BYTE, f"against {code(first.name)}"), rows)


def _figures(ranking: Ranking) -> str:
    columns = [figures(model) for model in ranking.models]
    head = ["what", *(code(model.name) for model in ranking.models)]
    return table(head, [[name, *(code(column[name]) for column in columns)] for name in columns[0]])


def _sample(ranking: Ranking, model: RankedModel) -> Sample | None:
    """What a model wrote after the first prompt from the held-out text."""
    for prompt, text in zip(ranking.prompts, model.texts, strict=True):
        if prompt:
            return Sample(prompt=prompt, continuation=text, from_corpus=True)
    return None


def _texts(ranking: Ranking, number: int) -> str:
    prompt = ranking.prompts[number]
    samples = (Sample(prompt=prompt, continuation=model.texts[number]) for model in ranking.models)
    return "\n\n".join(f"{code(model.name)}\n\n{quoted(one)}" for model, one in zip(ranking.models, samples, strict=True))


def _next_step(ranking: Ranking, best: RankedModel, tag: str) -> str:
    if ranking.winner is None:
        return "keep the model that you have, or compare on more text: set `data`, or a larger `eval_tokens`."
    if tag:
        return f"nothing to do: the tag {code(tag)} is on {code(best.name)}."
    return f"use {code(best.name)}; with `promote: better` its commit on the Hub gets a tag."
