"""The questions of the input `evaluate`: from files, and from what the corpus holds out; and which of them were trained on."""

from collections.abc import Sequence
from dataclasses import replace

from ..config.inputs import Inputs
from ..corpus.nanogpt_bin import is_token_files
from ..corpus.readers import read_documents
from ..corpus.split import is_validation
from ..corpus.tokens import Tokens
from ..errors import EchoselfError, InputError
from ..evaluation.questions.question_file import question_of, read_questions
from ..evaluation.questions.question_set import Question, QuestionSet, question_set
from ..evaluation.questions.training_overlap import TrainingText, training_text
from ..markdown import counted
from ..report.log import note, warn
from .corpus_files import HELD_OUT, corpus_files, question_files


def load_questions(inputs: Inputs, tokens: Tokens | None) -> QuestionSet:
    """The questions to ask. `tokens` are those of the corpus, whose training text is searched for the questions; None if it is
    not at hand.

    Raises InputError if there are no questions, or one of them can't be asked.
    """
    questions = read_questions(question_files(inputs), lambda finding: note(str(finding)))
    if HELD_OUT in inputs.question_sources:
        questions += _held_out(inputs)
    try:
        asked = question_set(questions, inputs.question_sources, inputs.evaluate_questions)
    except ValueError as error:
        fix = "Add `distractors` to the question, or more questions."
        raise InputError(f"evaluate: {error}. Nothing was done.", fix) from None
    if tokens:
        _require_ids(asked, tokens)
        asked = _with_training_text(asked, training_text(tokens.train, tokens.tokenizer))
    else:
        note("the training text is not at hand: whether it has the questions was not checked")
    _note_set(asked, len(questions))
    return asked


def _held_out(inputs: Inputs) -> list[Question]:
    """The questions and answers of the corpus that are held out, as training would see them."""
    files = corpus_files(inputs)
    missing = "the held-out part of the corpus has no records with a question and an answer"
    if is_token_files(files):
        raise InputError(
            f"evaluate: held-out, but {files[0]} has token ids, not records with a question and an answer. Nothing was done.",
            "Use a file of questions.",
        )
    documents = read_documents(files, inputs.on_bad_file, lambda _: None, inputs.text_column)  # findings are logged once
    held_out = (one for one in documents if one.answer and is_validation(one.text, inputs.val_fraction))
    questions = [question for one in held_out if (question := question_of(one))]
    if not questions:
        raise InputError(
            f"evaluate: {missing}. Nothing was done.",
            "Such records have `messages`, or `prompt` and `completion`: see docs/corpus.md. Add some, raise val_fraction, or "
            "name a file of questions.",
        )
    return questions


def _require_ids(asked: QuestionSet, tokens: Tokens) -> None:
    """Raises InputError for a question that the tokenizer can't encode."""
    for one in asked.questions:
        try:
            tokens.tokenizer.encode_batch([one.prompt, *(one.gap + answer for answer in one.answers)])
        except EchoselfError as error:
            raise InputError(f"evaluate: {one.place} can't be asked: {error.message}", error.hint) from None


def _with_training_text(asked: QuestionSet, text: TrainingText) -> QuestionSet:
    """The set with what the training text has of it."""
    if not text.is_whole:
        warn("the training text is long: only its first 33 million tokens were searched for the questions")
    if text.has_chats and not any("Assistant" in one.prompt for one in asked.questions):
        warn(
            "most of the training text are chats, but no question is: with `question` in place of `prompt`, or with "
            "`messages`, the model is asked in the form that it was trained on (docs/evaluation.md)"
        )
    return replace(asked, questions=tuple(replace(one, is_trained_on=text.has(one)) for one in asked.questions))


def _note_set(asked: QuestionSet, read: int) -> None:
    count = len(asked.questions)
    parts = [counted(count, "question")]
    if merged := read - count - asked.left_out:
        parts.append(f"{merged:,} more repeat one of their prompts and add references to it")
    if asked.left_out:
        parts.append(f"{asked.left_out:,} more were left out (evaluate_questions)")
    if dimensions := _dimensions(asked.questions):
        parts.append(counted(dimensions, "persona dimension"))
    note("; ".join(parts))
    if seen := count - len(asked.counted):
        (warn if seen == count else note)(
            f"{seen:,} of {count:,} questions are in the training text, and are not counted"
            f"{': there is no score' if seen == count else ''}"
        )


def _dimensions(questions: Sequence[Question]) -> int:
    return len({one.dimension for one in questions} - {""})
