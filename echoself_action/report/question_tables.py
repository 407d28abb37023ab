"""The scores of a model on questions, as tables of report.html."""

from dataclasses import dataclass

from ..checkpoint.question_facts import (
    QUESTIONS_HEAD,
    QUESTIONS_MEANING,
    QuestionFacts,
    compared_text,
    generated_rows,
    question_remarks,
    question_rows,
)


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
    labels = ("persona dimension", *QUESTIONS_HEAD)
    rows = [dict(zip(labels, row, strict=True)) for row in question_rows(facts)]
    return QuestionTables(QUESTIONS_MEANING, labels, rows, question_remarks(facts), figures)
