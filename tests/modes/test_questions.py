"""Questions of `evaluate`: asked after training, recorded, shown, and part of the decision to publish."""

import json
from pathlib import Path

import pytest

from echoself_action.checkpoint.metadata import Metadata, read_metadata
from echoself_action.hub.client import open_hub
from echoself_action.hub.history import parse_history

from ..conftest import SMALL, Cli

HUB = "--hub hub --repo-id me/model"
AGAIN = "the published model records no scores on the questions of today: it is asked them"
TRAIN = f"train --tokenizer bytes {SMALL} --block-size 64"
COLOURS = ["red", "green", "blue", "black", "white", "grey", "pink", "brown", "gold", "purple"]


def write_questions(count: int = 10) -> None:
    """Questions in a file that `data` matches too, and chats that a model can learn them from."""
    Path("asked").mkdir(exist_ok=True)
    rows = [
        {"question": f"Which colour is {number}?", "reference": colour, "dimension": "cognitive" if number % 2 else "dynamic"}
        for number, colour in enumerate(COLOURS[:count])
    ]
    Path("asked/questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def facts_of(outputs: dict[str, str]) -> Metadata:
    facts = read_metadata(Path(outputs["model_dir"]))
    assert facts
    assert facts.questions
    return facts


def test_a_model_is_scored_on_questions_that_are_left_out_of_training(
    echoself: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_questions()
    outputs = echoself(f"{TRAIN} --evaluate asked/*.jsonl", "--data docs/*.md,asked/*.jsonl")
    log = capsys.readouterr().out
    assert "files of questions left out of training (1): asked/questions.jsonl, which evaluate names" in log
    facts = facts_of(outputs).questions
    assert facts
    assert (facts.scores.questions, facts.in_training, facts.left_out) == (10, 0, 0)
    assert facts.scores.chance == 0.25
    assert {name: one.questions for name, one in facts.by_dimension.items()} == {"cognitive": 5, "dynamic": 5}
    assert 0 <= facts.scores.accuracy.low <= facts.scores.accuracy.value <= facts.scores.accuracy.high <= 1
    assert facts.scores.bits_per_byte.low < facts.scores.bits_per_byte.value < facts.scores.bits_per_byte.high
    assert facts.generated
    assert facts.generated.answers == 10
    summary, page = (tmp_path / "summary.md").read_text(), Path(outputs["report"]).read_text()
    line = f"accuracy {facts.scores.accuracy.value:.1%} on 10 questions"
    assert f"Questions: {line}" in summary
    assert line in log
    assert "<h2>Questions</h2>" in page
    assert ">cognitive</td>" in page


def test_questions_in_the_training_text_are_not_counted(echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    write_questions()
    Path("docs/leak.md").write_text("User: Which\ncolour is 3?\n\nAssistant:   black\n\n" * 2)
    Path("docs/far.md").write_text("Which colour is 4?" + " Nobody knows the answer." * 100 + " white")
    outputs = echoself(f"{TRAIN} --max-iters 2 --evaluate asked/*.jsonl", "--data docs/*.md --val-fraction 0.2")
    assert "1 of 10 questions are in the training text, and are not counted" in capsys.readouterr().out
    facts = facts_of(outputs).questions
    assert facts
    assert (facts.scores.questions, facts.in_training) == (9, 1)
    assert facts.in_training_scores
    assert facts.in_training_scores.questions == 1


def test_the_gate_on_questions_refuses_a_model_and_says_why(
    echoself: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_questions()
    ask = "--evaluate asked/*.jsonl --data docs/*.md --gate none"
    echoself(f"{TRAIN} --max-iters 2 {ask.replace('--gate none', '')}")
    refused = echoself(f"deploy {HUB} {ask} --evaluate-gate accuracy=1")
    assert (refused["gate_result"], refused["deployed"]) == ("refused", "false")
    assert "less than 100.0%" in refused["gate_reason"]
    assert "did not pass evaluate_gate accuracy=1" in (tmp_path / "summary.md").read_text()
    assert "On questions: " in Path(refused["report"]).read_text()
    first = echoself(f"deploy {HUB} {ask} --evaluate-gate improved")
    assert (first["gate_result"], first["deployed"]) == ("passed", "true")
    assert "it is the first to be published" in capsys.readouterr().out
    echoself(f"{TRAIN} --max-iters 6 {ask.replace('--gate none', '')} --output-dir other --seed 5")
    other = echoself(f"deploy {HUB} {ask} --evaluate-gate improved --output-dir other")
    assert other["gate_result"] == "refused"
    log = capsys.readouterr().out
    assert "on questions, not significantly better than the published model" in log
    assert AGAIN not in log
    write_questions(9)
    passed = echoself(f"deploy {HUB} {ask} --evaluate-gate not_worse --output-dir other")
    assert passed["deployed"] == "true"
    assert AGAIN in capsys.readouterr().out
    compared = facts_of(passed).questions
    assert compared
    assert compared.compared
    assert compared.compared.against == first["commit_sha"]
    with open_hub("hub", None) as hub:
        card = Path(hub.api.hf_hub_download("me/model", "README.md")).read_text()
        history = parse_history(Path(hub.api.hf_hub_download("me/model", "metrics/history.jsonl")).read_bytes())
    assert "### Questions" in card
    assert "| cognitive | 4 |" in card
    assert history.entries[-1].question_accuracy == compared.scores.accuracy.value
    assert history.entries[-1].questions_digest == compared.digest


def test_held_out_questions_are_those_of_the_held_out_records(echoself: Cli) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"Who is number {n}?"}, {"role": "assistant", "content": f"I am {n * n}."}]}
        for n in range(60)
    ]
    Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    inputs = "--evaluate held-out --evaluate-questions 4 --data chats.jsonl,docs/*.md --val-fraction 0.3 --max-iters 2"
    facts = facts_of(echoself(f"{TRAIN} {inputs}")).questions
    assert facts
    assert facts.scores.questions == 4
    assert 5 < facts.left_out < 35


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            '{"prompt": "a", "reference": "b"}\n{"prompt": "a"}\n',
            ":2: the line has `prompt` without an answer",
        ),
        ('{"prompt": "a", "references": ["b", 3]}\n', "asked/questions.jsonl:1: the line has a number in `references`"),
        ('{"prompt": "a"\n', "asked/questions.jsonl:1: the line is invalid JSON"),
        ('{"text": "a"}\n', "asked/questions.jsonl:1: the line does not end with an answer"),
        ("\n", "asked/questions.jsonl has no questions"),
    ],
)
def test_an_invalid_question_ends_the_run_before_any_work(
    echoself: Cli, capsys: pytest.CaptureFixture[str], content: str, problem: str
) -> None:
    write_questions()
    Path("asked/questions.jsonl").write_text(content)
    echoself(f"{TRAIN} --data docs/*.md --evaluate asked/*.jsonl", code=2)
    assert problem in capsys.readouterr().err
    assert not Path("echoself-model").exists()


def test_a_gate_without_questions_is_a_contradiction(echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    echoself(f"deploy {HUB} --evaluate-gate improved", code=2)
    assert "improved needs questions, and evaluate names none" in capsys.readouterr().err


def test_models_of_known_difference_are_told_apart_and_equal_ones_are_not(
    echoself: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers name the last letter of the prompt: two steps do not learn it, 300 do, with either seed."""
    rows = [{"prompt": f"{n:03}{n % 8:x}", "completion": " " + "abcdefgh"[n % 8] * 3} for n in range(832)]
    Path("learnt.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:800]))
    Path("asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[800:]))
    shape = "--tokenizer bytes --preset ci --n-layer 1 --n-head 2 --n-embd 32 --block-size 16 --batch-size 32 --device cpu"
    for name, options in (("weak", "--max-iters 2"), ("strong", "--max-iters 300"), ("equal", "--max-iters 300 --seed 5")):
        echoself(f"train {shape} --eval-interval 300 {options} --data learnt.jsonl --output-dir {name}")
    outputs = echoself("compare --candidates weak,strong --evaluate asked.jsonl")
    log = capsys.readouterr().out
    assert "the training text is not at hand" in log
    page, summary = Path(outputs["report"]).read_text(), (tmp_path / "summary.md").read_text()
    for text in (log, page, summary):
        assert "n questions, strong is significantly better than weak: " in text
    assert '<th scope="row">accuracy on questions (95 % CI)</th>' in page
    echoself("compare --candidates strong,equal --evaluate asked.jsonl")
    assert "on questions, equal is not significantly different from strong: " in capsys.readouterr().out


def test_a_job_without_the_corpus_keeps_the_scores_of_training(echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """It can't know which questions are in the training text."""
    write_questions()
    Path("docs/leak.md").write_text("User: Which colour is 3?\n\nAssistant: black\n\n" * 2)
    ask = "--evaluate asked/*.jsonl --val-fraction 0.2 --data docs/*.md"
    before = facts_of(echoself(f"{TRAIN} --max-iters 2 {ask}")).questions
    assert before
    assert before.in_training == 1
    Path("docs").rename("elsewhere")
    deployed = echoself(f"deploy {HUB} {ask} --gate none")
    log = capsys.readouterr().out
    assert "the training text is not at hand" in log
    assert "the model keeps the scores of its training" in log
    assert facts_of(deployed).questions == before


def test_plain_questions_to_a_model_of_chats_are_noticed(echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Path("asked.jsonl").write_text('{"prompt": "Who?", "reference": "Echo.", "distractors": ["Bo."]}\n')
    rows = [{"question": f"Who is {n}?", "answer": f"He is {n * n}."} for n in range(60)]
    Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    echoself(f"{TRAIN} --max-iters 2 --evaluate asked.jsonl --data chats.jsonl --block-size 16")
    assert "most of the training text are chats, but no question is" in capsys.readouterr().out
