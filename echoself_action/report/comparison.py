"""Models side by side, for the log and the job summary; the page of it is in compare_page.py."""

import math

from ..evaluation.paired_bootstrap import Difference
from ..evaluation.ranking import Contest, Entrant
from ..markdown import code, indented, table


def figures(entrant: Entrant) -> dict[str, str]:
    """What is told of a model, by what it is called."""
    reading = entrant.reading
    return {
        "from": entrant.place,
        "step": f"{entrant.step:,}",
        "loss, nats per token": f"{reading.loss:.4f}",
        "perplexity": f"{math.exp(min(reading.loss, 700)):,.2f}",
        "bits per byte": f"{reading.bits_per_byte:.4f}",
        "parameters": f"{entrant.parameters:,}",
        "size of the weights": f"{entrant.size:,} bytes",
        "architecture": entrant.architecture,
        "tokenizer": entrant.tokenizer,
        "reads here": f"{reading.tokens_per_second:,.0f} tokens/s",
        "writes here": f"{entrant.tokens_per_second:,.0f} tokens/s",
    }


def verdict(contest: Contest) -> str:
    """Who won, in a sentence."""
    if contest.winner is None:
        return "No candidate is surely better than every other"
    return f"{contest.winner.name} is better than every other candidate"


def against_first(contest: Contest) -> list[tuple[str, str, Difference]]:
    """Each candidate but the first: its name, what the difference from the first means, and the difference."""
    first, *others = contest.entrants
    return [
        (other.name, f"{_sense(found)} {first.name}", found) for other, found in zip(others, contest.differences, strict=True)
    ]


def told(contest: Contest) -> list[str]:
    """Lines for the log."""
    lines = [f"held-out text: {contest.held_out}"]
    for entrant in contest.entrants:
        lines.append(f"{entrant.name}: {', '.join(f'{name} {value}' for name, value in figures(entrant).items())}")
    lines += [f"{name} is {sense}: {found}" for name, sense, found in against_first(contest)]
    return [*lines, f"{verdict(contest)}."]


def comparison_summary(contest: Contest, page: str) -> str:
    """Markdown about a comparison."""
    columns = [figures(entrant) for entrant in contest.entrants]
    head = ["", *(code(entrant.name) for entrant in contest.entrants)]
    rows = [[name, *(code(column[name]) for column in columns)] for name in columns[0]]
    sections = [
        f"## Compared: {verdict(contest)}",
        table(head, rows),
        "\n".join(f"- {code(name)} is {code(sense)}: {found}" for name, sense, found in against_first(contest)),
        f"Held-out text: {code(contest.held_out)}. Samples are in {code(page)}; upload it as an artifact to look at it.",
    ]
    for number, prompt in enumerate(contest.prompts):
        texts = "\n\n".join(f"{code(entrant.name)}\n\n{indented(entrant.texts[number])}" for entrant in contest.entrants)
        sections.append(f"<details><summary>After {prompt_title(prompt, escaped=True)}</summary>\n\n{texts}\n\n</details>")
    return "\n\n".join(sections) + "\n"


def prompt_title(prompt: str, escaped: bool = False) -> str:
    """What a sample goes on from."""
    if not prompt:
        return "the start of a document"
    shown = prompt.replace("&", "&amp;").replace("<", "&lt;") if escaped else prompt
    return f"“{shown}”"


def _sense(found: Difference) -> str:
    return "better than" if found.high < 0 else "worse than" if found.low > 0 else "not surely better or worse than"
