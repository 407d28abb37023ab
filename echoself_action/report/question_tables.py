"""The scores of a model on questions, as tables of report.html, and those of its publishes as the lines of a chart."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from ..checkpoint.question_facts import (
    QUESTIONS_HEAD,
    QUESTIONS_MEANING,
    QuestionFacts,
    compared_text,
    generated_rows,
    question_remarks,
    question_rows,
)
from ..hub.history import HistoryEntry
from .charts import Line


@dataclass(frozen=True)
class QuestionTables:
    """What the page shows: a row for each group of questions, by `labels`, and names and values of other figures."""

    about: str
    labels: tuple[str, ...]
    rows: list[dict[str, str]]
    remarks: str
    facts: list[tuple[str, str]]


def question_tables(facts: QuestionFacts) -> QuestionTables:
    """The tables of the scores."""
    figures = generated_rows(facts.generated) if facts.generated else []
    if facts.compared:
        figures.insert(0, (f"against commit {facts.compared.against[:7]}", compared_text(facts.compared)))
    labels = ("dimension", *QUESTIONS_HEAD)
    rows = [dict(zip(labels, row, strict=True)) for row in question_rows(facts)]
    return QuestionTables(QUESTIONS_MEANING, labels, rows, question_remarks(facts), figures)


def question_lines(publishes: Sequence[HistoryEntry]) -> list[Line]:
    """Accuracy and preference of the publishes, in percent. A line connects only those that were asked the same questions."""
    asked = [(number, one) for number, one in enumerate(publishes, 1) if one.question_accuracy is not None]
    lines = []
    for count, (_, group) in enumerate(groupby(asked, key=lambda pair: pair[1].questions_digest)):
        same = list(group)
        shares = (("accuracy", "question_accuracy"), ("preference", "question_preference"))
        for style, (name, field) in enumerate(shares):
            points = [(float(number), 100 * share) for number, one in same if (share := getattr(one, field)) is not None]
            lines.append(Line(name, points, style, is_listed=count == 0))
    return lines
