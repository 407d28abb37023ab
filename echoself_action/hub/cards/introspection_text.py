"""What was measured inside a model, for cards, pages, summaries and the log: sentences with figures, and rows of a table.

A path is said to do something only if the interval of its effect excludes zero.
"""

from statistics import fmean

from ...checkpoint.introspection_facts import FEWEST_WINDOWS, AblationFacts, IntrospectionFacts
from ...checkpoint.metadata import BITS_PER_BYTE
from ...markdown import escaped, table

ABLATION_HEAD = ("switched off", "change in bits per byte", "95 % CI", "share of the logits", "so the path")
LOGIT_SHARE_MEANING = (
    "Share of the logits: the length of the difference that the path makes, relative to that of the logits, both less their "
    "mean over the vocabulary. 100 % means that the difference is as large as the logits themselves."
)
_LABELS = {
    "adaptive_attention": "adaptive attention",
    "adaptive_threshold": "its adaptation alone (thresholds held at their mean)",
    "persona_dimensions": "persona dimensions, all",
    "recursive_reasoning": "recursive reasoning",
    "hypergraph_patterns": "hypergraph patterns",
}


def path_label(path: str) -> str:
    """A path in words."""
    name, _, dimension = path.partition(".")
    return f"persona dimension {dimension}" if dimension else _LABELS.get(name, name)


def ablation_rows(facts: IntrospectionFacts) -> list[tuple[str, str, str, str, str]]:
    """Rows of plain text under ABLATION_HEAD."""
    return [
        (path_label(one.path), _signed(one.change), _interval(one), f"{one.logit_share:.1%}", effect(one))
        for one in facts.ablations
    ]


def effect(ablation: AblationFacts) -> str:
    """What the figures allow to say about the path."""
    if ablation.low is None:
        return f"is not judged (fewer than {FEWEST_WINDOWS} windows)"
    if not ablation.is_measurable:
        return "has no measurable effect"
    return "lowers the loss" if ablation.change > 0 else "raises the loss"


def attention_text(facts: IntrospectionFacts) -> str:
    """The entropy of the attention in one sentence."""
    heads = [head for layer in facts.entropy for head in layer]
    mean = facts.mean_entropy
    return (
        f"The attention has a mean entropy of {mean:.2f} bits, by head {min(heads):.2f} to {max(heads):.2f}: a token attends "
        f"effectively to {2**mean:.1f} of the {2**facts.uniform_entropy:.1f} tokens that it can see (geometric means)."
    )


def measured_text(facts: IntrospectionFacts) -> str:
    """What it was measured on, in one sentence."""
    fewer = f", the ablations on {facts.ablation_windows}" if facts.ablations and facts.ablation_windows < facts.windows else ""
    return (
        f"Measured on {facts.windows:,} windows of held-out text with {facts.tokens:,} tokens{fewer}, on which the model needs "
        f"{facts.bits_per_byte:.4f} {BITS_PER_BYTE}, in {facts.seconds:.0f} s."
    )


def structure_texts(facts: IntrospectionFacts) -> list[str]:
    """Thresholds, connections and recursion, each in one or two sentences; empty for a model without them."""
    texts = []
    if facts.thresholds:
        low, high = min(one.low for one in facts.thresholds), max(one.high for one in facts.thresholds)
        mean, deviation, at_limit = (
            fmean(getattr(one, name) for one in facts.thresholds) for name in ("mean", "deviation", "at_limit")
        )
        limited = f" At {at_limit:.0%} of the tokens they are at a limit." if at_limit >= 0.005 else ""
        texts.append(
            f"The thresholds of the attention are {mean:.3f} on average and range from {low:.3f} to {high:.3f}. Within a layer "
            f"they vary over the text with a standard deviation of {deviation:.4f}.{limited}"
        )
    if facts.connections is not None:
        texts.append(
            f"{facts.connections:.1%} of the connections in its masks are on; the model states {facts.stated_connections:.1%}."
        )
    if facts.recursion_depth is not None:
        texts.append(f"The recursion is {facts.recursion_depth} of at most {facts.max_recursion_depth} layers deep.")
    return texts


def summary_text(facts: IntrospectionFacts) -> str:
    """One line: the attention, and what each path changes."""
    changes = [
        f"{path_label(one.path)} {_signed(one.change)}{'' if one.is_measurable else ' (no measurable effect)'}"
        for one in facts.ablations
        if "." not in one.path
    ]
    listed = f" Change in {BITS_PER_BYTE} with a path switched off: {', '.join(changes)}." if changes else ""
    return attention_text(facts) + listed


def card_section(facts: IntrospectionFacts | None) -> str:
    """The part of the model card, in Markdown; "" for a model that was not measured."""
    if facts is None:
        return ""
    parts = ["### Inside the model", measured_text(facts), attention_text(facts), *structure_texts(facts)]
    if facts.ablations:
        rows = [[escaped(cell) for cell in row] for row in ablation_rows(facts)]
        parts += [
            "Each path is switched off while the model is evaluated. The model is not trained again: it has learnt to rely on "
            "all its paths, so another model without a path may be as good. The interval is a paired bootstrap over windows. "
            "Where it includes zero, the path has no measurable effect.",
            table(ABLATION_HEAD, rows),
            LOGIT_SHARE_MEANING,
        ]
    return "\n\n".join(parts)


def _interval(ablation: AblationFacts) -> str:
    return "" if ablation.low is None or ablation.high is None else f"{_signed(ablation.low)} to {_signed(ablation.high)}"


def _signed(change: float) -> str:
    return f"{round(change, 4) + 0.0:+.4f}"  # + 0.0: no minus before zero
