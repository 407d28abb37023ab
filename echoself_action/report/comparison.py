"""The result of a comparison of models: figures, verdict and differences, for the log, the job summary and compare.html."""

import math
from pathlib import Path

from ..checkpoint.metadata import BITS_PER_BYTE, BITS_PER_BYTE_MEANING
from ..checkpoint.question_facts import QUESTIONS_MEANING, compared_text, question_figures
from ..evaluation.paired_bootstrap import Difference
from ..evaluation.ranking import RankedModel, Ranking
from ..hub.provenance import this_run
from .charts import interval_chart
from .html_page import job_links, render, write_html

PAGE_FILE = "compare.html"


def figures(model: RankedModel) -> dict[str, str]:
    """The figures of a model, by their labels."""
    scores = model.scores
    asked = model.asked
    return {
        "source": model.place,
        "step": f"{model.step:,}",
        "bits per byte": f"{scores.bits_per_byte:.4f}",
        "loss, nats per token": f"{scores.loss:.4f}",
        "perplexity": f"{math.exp(min(scores.loss, 700)):,.2f}",
        "parameters": f"{model.parameters:,}",
        "size of the weights": f"{model.size:,} bytes",
        "architecture": model.architecture,
        "tokenizer": model.tokenizer,
        "evaluation speed": f"{scores.tokens_per_second:,.0f} tokens/s",
        "generation speed": f"{model.tokens_per_second:,.0f} tokens/s",
        **(question_figures(asked) if asked else {}),
    }


def verdict(ranking: Ranking) -> str:
    """The result, as a title."""
    if ranking.winner is None:
        return "No candidate is significantly better than all others"
    return f"{ranking.winner.name} is significantly better than every other candidate"


def against_first(ranking: Ranking) -> list[tuple[str, str, Difference]]:
    """Each candidate but the first: its name, its relation to the first ("significantly better than X"), the difference."""
    first, *others = ranking.models
    return [
        (other.name, f"{_relation(found)} {first.name}", found)
        for other, found in zip(others, ranking.differences, strict=True)
    ]


def on_questions(ranking: Ranking) -> list[str]:
    """How the answers of each candidate but the first to questions differ from those of the first, each in a sentence."""
    lines = []
    for model, found in zip(ranking.models[1:], ranking.question_differences, strict=False):
        relation = "better than" if found.is_better else "worse than" if found.is_worse else "different from"
        significantly = "significantly" if found.is_better or found.is_worse else "not significantly"
        lines.append(f"on questions, {model.name} is {significantly} {relation} {found.against}: {compared_text(found)}")
    return lines


def comparison_log(ranking: Ranking) -> list[str]:
    """Lines for the log."""
    lines = [f"held-out text: {ranking.held_out}"]
    for model in ranking.models:
        lines.append(f"{model.name}: {', '.join(f'{name} {value}' for name, value in figures(model).items())}")
    lines += [f"{name} is {relation}: {found}" for name, relation, found in against_first(ranking)]
    lines += on_questions(ranking)
    return [*lines, f"{verdict(ranking)}."]


def write_comparison_page(output_dir: Path, ranking: Ranking) -> Path:
    """Write compare.html, the models side by side, into `output_dir`; returns its path."""
    return write_html(output_dir / PAGE_FILE, _page(ranking))


def prompt_title(prompt: str) -> str:
    """A prompt as the title of its samples."""
    return f"“{prompt}”" if prompt else "start of a document"


def _relation(found: Difference) -> str:
    if found.high < 0:
        return "significantly better than"
    return "significantly worse than" if found.low > 0 else "not significantly different from"


def _in_short(found: Difference) -> str:
    return f"{found.mean:+.4f} bits per byte, 95 % confidence interval {found.low:+.4f} to {found.high:+.4f}"


def _page(ranking: Ranking) -> str:
    columns = [figures(model) for model in ranking.models]
    compared = against_first(ranking)
    reach = max((max(abs(one.low), abs(one.high)) for _, _, one in compared), default=0.0)  # one scale for all bars
    return render(
        "compare.html",
        ranking=ranking,
        verdict=verdict(ranking),
        meaning=BITS_PER_BYTE_MEANING,
        questions_meaning=QUESTIONS_MEANING if any(model.asked for model in ranking.models) else "",
        on_questions=on_questions(ranking),
        links=[link for link in job_links(this_run()) if link[1]],
        rows=[(name, [column[name] for column in columns]) for name in columns[0]],
        intervals=[
            (name, f"{relation}: {_in_short(one)}", interval_chart(one.low, one.mean, one.high, BITS_PER_BYTE, reach))
            for name, relation, one in compared
        ],
        samples=[
            (prompt_title(prompt), [(model.name, model.texts[number]) for model in ranking.models])
            for number, prompt in enumerate(ranking.prompts)
        ],
    )
