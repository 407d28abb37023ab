"""How a model answers questions, as training_metadata.json records it. It is measured by evaluation/questions."""

from pydantic import Field

from ..markdown import counted
from .facts import Facts

SIGNIFICANT = 0.05  # the two-sided p-value of a difference


class Estimate(Facts):
    """A figure, and the bounds of its 95 % confidence interval over questions."""

    value: float
    low: float
    high: float


class QuestionScores(Facts):
    """The scores of a model on some questions, each with one or more references (expected answers) and distractors.

    `accuracy` is the share of the questions of which a reference has the highest score among all answers. `chance` is what
    guessing would reach. The score of an answer is how much more likely the prompt makes it (pointwise mutual information).
    `accuracy_per_byte` is the same share if answers are ranked by their likelihood per byte instead. `preference` is the share
    of the distractors that score below a reference, by question; guessing reaches 0.5. `bits_per_byte` is the loss of the
    references given the prompt, in bits per UTF-8 byte: lower is better, and tokenizers do not matter.
    """

    questions: int
    accuracy: Estimate
    chance: float
    accuracy_per_byte: float
    preference: Estimate
    bits_per_byte: Estimate


class GeneratedAnswers(Facts):
    """What the model writes after the prompts, by greedy decoding: `answers` of them, fewer than the questions if that would
    have taken too long.

    `exact_match` and `f1` (of words) compare them with the references, as SQuAD does. `distinct` are the shares of distinct
    words, pairs and triples of words among all of them. `repetition` is the share of sequences of four words that occurred
    before in the same answer, None if no answer has four words.
    """

    answers: int
    exact_match: float
    f1: float
    distinct: tuple[float, float, float]
    repetition: float | None = None


class QuestionComparison(Facts):
    """The preference of the model minus that of the published one at the commit `against`, on the same `questions`.

    `low` and `high` are the bounds of the 95 % confidence interval, `p_value` is that of the sign-flip test.
    """

    against: str
    questions: int
    candidate: float
    published: float
    low: float
    high: float
    p_value: float

    @property
    def is_better(self) -> bool:
        """Whether the model is significantly better, at the 5 % level."""
        return self.p_value <= SIGNIFICANT and self.candidate > self.published

    @property
    def is_worse(self) -> bool:
        """Whether the model is significantly worse, at the 5 % level."""
        return self.p_value <= SIGNIFICANT and self.candidate < self.published


class QuestionFacts(Facts):
    """How the model answers the questions of the input `evaluate`.

    `preferences` are those by question, in the order of the set, to compare a later model without asking this one again.
    `digest` identifies prompts, references and distractors: scores of models with the same one are comparable. `sources` is the
    input. `scores` are those of the questions that are not in the training text; `by_dimension` are the same by persona
    dimension. `in_training` is the number of questions whose prompt and reference are in the training text, and
    `in_training_scores` are theirs. `left_out` is the number of questions beyond the limit `evaluate_questions`.
    `cut_prompts` counts prompts that were cut to the context, `long_answers` answers that were scored in several windows.
    """

    digest: str
    sources: list[str]
    scores: QuestionScores
    by_dimension: dict[str, QuestionScores] = Field(default_factory=dict)
    preferences: tuple[float, ...] = ()
    in_training: int = 0
    in_training_scores: QuestionScores | None = None
    left_out: int = 0
    cut_prompts: int = 0
    long_answers: int = 0
    generated: GeneratedAnswers | None = None
    compared: QuestionComparison | None = None


QUESTIONS_MEANING = (
    "Accuracy: how often the model prefers an expected answer to all distractors, by how much more likely the question makes "
    "it. Preference: the share of distractors that it rejects. Bits per byte: the loss of the expected answers after their "
    "questions. No other model judges them."
)
QUESTIONS_HEAD = ("asked", "accuracy (95 % CI)", "chance", "preference (95 % CI)", "bits/byte (95 % CI)")


def questions_text(facts: QuestionFacts) -> str:
    """The scores in one line, for the log and the job summary."""
    scores = facts.scores
    seen = f"; {facts.in_training:,} more in the training text, not counted" if facts.in_training else ""
    return (
        f"accuracy {scores.accuracy.value:.1%} on {counted(scores.questions, 'question')} (95 % CI "
        f"{percent_range(scores.accuracy)}, guessing {scores.chance:.0%}), preference {scores.preference.value:.1%} (95 % CI "
        f"{percent_range(scores.preference)}, guessing 50%), {scores.bits_per_byte.value:.4f} bits per byte of the "
        f"references{seen}"
    )


def question_remarks(facts: QuestionFacts) -> str:
    """What was left out, cut or limited, as sentences; "" for nothing."""
    remarks = []
    if facts.in_training:
        many = facts.in_training + facts.scores.questions
        remarks.append(f"Not counted, because in the training text: {facts.in_training:,} of {counted(many, 'question')}.")
    if facts.left_out:
        remarks.append(f"Left out beyond the limit evaluate_questions: {counted(facts.left_out, 'question')}.")
    if facts.cut_prompts:
        remarks.append(f"Cut at the start, to fit into the context: {counted(facts.cut_prompts, 'prompt')}.")
    if facts.long_answers:
        remarks.append(
            f"Scored in parts, because longer than three quarters of the context: {counted(facts.long_answers, 'answer')}."
        )
    if facts.generated and facts.generated.answers < facts.scores.questions:
        remarks.append(f"Generated, to limit the time, only {counted(facts.generated.answers, 'answer')}.")
    return " ".join(remarks)


def question_rows(facts: QuestionFacts) -> list[tuple[str, ...]]:
    """The scores of all questions, of each persona dimension, and of those in the training text: a name, QUESTIONS_HEAD."""
    groups = [("all", facts.scores), *sorted(facts.by_dimension.items())]
    if facts.in_training_scores:
        groups.append(("in the training text, not counted", facts.in_training_scores))
    return [(name, *_cells(scores)) for name, scores in groups]


def question_figures(facts: QuestionFacts) -> dict[str, str]:
    """The scores of all questions, by their labels, in a table of several models."""
    generated = dict(generated_rows(facts.generated)) if facts.generated else {}
    labels = ("questions", "accuracy on questions (95 % CI)", "accuracy by chance", "preference on questions (95 % CI)")
    return dict(zip((*labels, "bits/byte of the references (95 % CI)"), _cells(facts.scores), strict=True)) | generated


def generated_rows(facts: GeneratedAnswers) -> list[tuple[str, str]]:
    """Name and value of the figures of generated answers."""
    one, two, three = facts.distinct
    rows = [
        ("answers generated", f"{facts.answers:,}"),
        ("exact match", f"{facts.exact_match:.1%}"),
        ("F1 of words", f"{facts.f1:.1%}"),
        ("distinct words, pairs and triples", f"{one:.1%}, {two:.1%}, {three:.1%}"),
        ("repeated sequences of four words", "" if facts.repetition is None else f"{facts.repetition:.1%}"),
    ]
    return [row for row in rows if row[1]]


def percent_range(figure: Estimate) -> str:
    """A confidence interval of a share, as `55.0% to 69.1%`."""
    return f"{figure.low:.1%} to {figure.high:.1%}"


def compared_text(compared: QuestionComparison) -> str:
    """The comparison with the published model in one line."""
    p_value = "p < 0.001" if compared.p_value < 0.001 else f"p = {compared.p_value:.3f}"
    return (
        f"{compared.candidate:.1%} vs. {compared.published:.1%} of the distractors rejected, difference "
        f"{100 * (compared.candidate - compared.published):+.1f} points (95 % CI {100 * compared.low:+.1f} to "
        f"{100 * compared.high:+.1f}, {p_value}; {compared.questions:,} questions)"
    )


def _cells(scores: QuestionScores) -> tuple[str, ...]:
    return (
        f"{scores.questions:,}",
        f"{scores.accuracy.value:.1%} ({percent_range(scores.accuracy)})",
        f"{scores.chance:.1%}",
        f"{scores.preference.value:.1%} ({percent_range(scores.preference)})",
        f"{scores.bits_per_byte.value:.4f} ({scores.bits_per_byte.low:.4f} to {scores.bits_per_byte.high:.4f})",
    )
