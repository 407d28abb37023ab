"""Echo fidelity for cards, pages, summaries and the log: each figure beside what the same measure gives to other texts."""

from ...checkpoint.fidelity_facts import FidelityFacts, FidelityScores
from ...checkpoint.question_facts import Estimate
from ...markdown import escaped, table

FIDELITY_HEAD = ("text", "fidelity (95 % CI)", "echo score (95 % CI)", "consistency")
FIDELITY_MEANING = (
    "Echo fidelity is EchoSelf's own measure: from 0 to 1, how many of certain words a text has, and how little it repeats "
    "itself. A list of these words scores 1, so it shows the vocabulary of the answers, not what they say. It means something "
    "only beside the score of held-out text, and if the answers score more with the words that their prompts are about."
)


def fidelity_text(facts: FidelityFacts) -> str:
    """One line for the log and the job summary."""
    held_out = f", held-out text {facts.held_out.score.value:.3f}" if facts.held_out else ""
    return (
        f"echo fidelity {_estimate(facts.unprompted.score)} without and {_estimate(facts.prompted.score)} with the system "
        f"prompt{held_out}; echo score {_estimate(facts.unprompted.echo_score)}; {prompt_effect(facts)}"
    )


def prompt_effect(facts: FidelityFacts) -> str:
    """Whether the answers are about their prompts, as far as the measure shows."""
    change = facts.difference
    interval = f"{change.value:+.3f}, 95 % CI {change.low:+.3f} to {change.high:+.3f}"
    if change.low > 0:
        return f"the answers score more with the words of their own category than with those of the others ({interval})"
    if change.high < 0:
        return f"the answers score less with the words of their own category than with those of the others ({interval})"
    return f"no measurable effect of the prompts on the words of the answers ({interval})"


def fidelity_rows(facts: FidelityFacts) -> list[tuple[str, str, str, str]]:
    """Rows of plain text under FIDELITY_HEAD."""
    texts = [("answers without the system prompt", facts.unprompted), ("answers with the system prompt", facts.prompted)]
    texts += [("held-out text of the same lengths", facts.held_out)] if facts.held_out else []
    rows = [_row(name, scores) for name, scores in texts]
    fidelity, echo = facts.empty_prompt
    rows.append(("the same answers, by the words of the other categories", f"{facts.other_category:.3f}", "", ""))
    rows.append(("answer to an empty prompt", f"{fidelity:.3f}", f"{echo:.3f}", ""))
    return rows


def fidelity_parts(facts: FidelityFacts) -> list[tuple[str, str]]:
    """(category or persona dimension, score) of the answers without the system prompt."""
    scores = facts.unprompted
    named = [*scores.by_category.items(), *((f"dimension {name}", value) for name, value in scores.by_dimension.items())]
    return [(name.replace("_", " "), f"{value:.3f}") for name, value in named]


def fidelity_about(facts: FidelityFacts) -> str:
    """What was asked, and that something was left out."""
    effect = prompt_effect(facts)
    fewer = f" of {facts.all_prompts}, because the time was over" if facts.prompts < facts.all_prompts else ""
    return (
        f"{facts.prompts} prompts{fewer}, answered by the most likely tokens, up to {facts.characters} characters, in "
        f"{facts.seconds:.0f} s. {effect[0].upper()}{effect[1:]}."
    )


def fidelity_section(facts: FidelityFacts | None) -> str:
    """The part of the model card, in Markdown; "" for a model that was not measured."""
    if facts is None:
        return ""
    rows = [[escaped(cell) for cell in row] for row in fidelity_rows(facts)]
    parts = ["### Echo fidelity", FIDELITY_MEANING, fidelity_about(facts), table(FIDELITY_HEAD, rows)]
    return "\n\n".join([*parts, table(("category or persona dimension", "score"), fidelity_parts(facts))])


def _row(name: str, scores: FidelityScores) -> tuple[str, str, str, str]:
    return name, _estimate(scores.score), _estimate(scores.echo_score), f"{scores.consistency:.3f}"


def _estimate(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
