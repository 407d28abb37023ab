"""Which questions are asked, against which distractors."""

from dataclasses import replace

import pytest

from echoself_action.evaluation.questions.question_set import Question, question_set


def question(number: int, dimension: str = "", reference: str = "") -> Question:
    prompt = f"Question {number}?"
    return Question(prompt, " ", (reference or f"answer {number}",), ask=prompt, dimension=dimension)


def test_distractors_are_references_of_the_same_dimension_and_a_similar_length() -> None:
    near = [question(number, "cognitive") for number in range(6)]
    long = [question(number, "cognitive", f"answer {number} {'and more ' * 9}") for number in (6, 7)]
    others = [question(number, "dynamic") for number in range(8, 20)]
    asked = {one.prompt: one for one in question_set([*others, *long, *near], ["a"], 0).questions}
    short = {one.references[0] for one in near}
    for one in near:
        assert len(set(asked[one.prompt].distractors)) == 3
        assert set(asked[one.prompt].distractors) <= short - set(one.references)
    one_of_two = [question(0, "rare"), question(1, "rare"), *others]
    first = next(one for one in question_set(one_of_two, ["a"], 0).questions if one.prompt == "Question 0?")
    assert "answer 1" in first.distractors


def test_the_set_does_not_depend_on_the_order_and_its_digest_is_of_all_answers() -> None:
    questions = [question(number) for number in range(9)]
    one, other = question_set(questions, ["a"], 0), question_set(questions[::-1], ["b"], 0)
    assert one.questions == other.questions
    assert one.digest == other.digest
    changed = [replace(questions[0], distractors=("no",)), *questions[1:]]
    assert question_set(changed, ["a"], 0).digest != one.digest


def test_a_limit_keeps_most_questions_as_the_set_grows() -> None:
    small = question_set([question(number) for number in range(40)], ["a"], 20)
    grown = question_set([question(number) for number in range(44)], ["a"], 20)
    assert (len(small.questions), small.left_out, grown.left_out) == (20, 20, 24)
    kept = {one.prompt for one in small.questions} & {one.prompt for one in grown.questions}
    assert len(kept) >= 16


def test_answers_to_the_same_prompt_are_references_and_no_distractors_of_each_other() -> None:
    twice = [question(0), question(0, reference="also right"), *(question(number) for number in range(1, 4))]
    first = next(one for one in question_set(twice, ["a"], 0).questions if one.prompt == "Question 0?")
    assert first.references == ("answer 0", "also right")
    assert not {"answer 0", "also right"} & set(first.distractors)


def test_given_distractors_are_used_alone() -> None:
    given = replace(question(0), distractors=("no", "answer  0"))
    first = next(one for one in question_set([given, question(1)], ["a"], 0).questions if one.prompt == "Question 0?")
    assert first.distractors == ("no",)


def test_a_single_question_needs_distractors() -> None:
    with pytest.raises(ValueError, match="no other question"):
        question_set([replace(question(0), place="a.jsonl:1")], ["a"], 0)


def test_questions_that_were_trained_on_do_not_count() -> None:
    asked = question_set([question(number) for number in range(5)], ["a"], 0)
    marked = replace(asked, questions=(replace(asked.questions[0], is_trained_on=True), *asked.questions[1:]))
    assert marked.counted == asked.questions[1:]
    assert marked.digest != asked.digest
