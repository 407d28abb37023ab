"""Whether questions tell models apart that differ, and only those: two of known difference, and two equal ones.

    python benchmarks/questions.py [--corpus FOLDER_OR_FILE] [--steps 150,250] [--resamples 200] [--work FOLDER]

The models are trained on the corpus by `echoself train`, with different numbers of steps, and the longest run twice, with two
seeds. By default the corpus is made here: chats whose answers have words of the topic that is asked about, so that held-out
questions can be answered by who has learnt the topics. All models are asked the held-out questions.

Power: how often questions drawn at random (without replacement) tell the models of different steps apart. False alarms: of the
two seeds of the same run, each question's results are exchanged at random, so that neither model is better; how often
`evaluate_gate: improved` then passes, and how often `not_worse` refuses. The same for a percentile bootstrap, as the rule that
would be used without thinking. Exits with 1 unless the models of different steps differ on all questions, and neither gate is
wrong more often than it may be.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from common import results
from common.corpora import files_of, name_of
from common.results import Figures, machine, print_row

from echoself_action.checkpoint.question_facts import QuestionFacts, compared_text
from echoself_action.checkpoint.select import best
from echoself_action.corpus.readers import read_documents
from echoself_action.corpus.split import is_validation
from echoself_action.evaluation.paired_bootstrap import load_language_model
from echoself_action.evaluation.questions.ask import ask_questions
from echoself_action.evaluation.questions.question_file import question_of
from echoself_action.evaluation.questions.question_set import QuestionSet, question_set
from echoself_action.evaluation.questions.sign_flip_test import compare_on_questions, paired_difference

FRACTION, SEED = 0.1, 0
COUNTS = (6, 10, 20, 50, 100)  # of questions
MOST_ALARMS = 0.05
SHAPE = "--preset ci --n-layer 2 --n-head 2 --n-embd 64 --block-size 128 --batch-size 16 --tokenizer bpe:512 --device cpu"
_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "ve")

Floats = npt.NDArray[np.float64]
Rule = Callable[[Floats, Floats], float]  # -1, 0 or 1: the first model is significantly worse, not different, or better


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--corpus", type=Path, help="folder of chats, or a file of them")
    parser.add_argument("--steps", default="150,250", help="steps of the models, fewest first")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--questions", type=int, default=200, help="most questions to ask")
    parser.add_argument("--work", type=Path, help="folder for corpus and models; models that are there are not trained again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(measure(given, given.work or Path(folder)))


def measure(given: argparse.Namespace, work: Path) -> int:
    """Print and keep the figures; returns the exit code."""
    work.mkdir(parents=True, exist_ok=True)
    figures, corpus = Figures(given), given.corpus or made_corpus(work / "topics.jsonl")
    few, many = (int(word) for word in given.steps.split(","))
    runs = [(f"{few} steps", few, 1), (f"{many} steps", many, 1), (f"{many} steps, another seed", many, 2)]
    asked = held_out_questions(corpus, given.questions)
    print(f"{machine()}.\n\n{name_of(corpus)}: {len(asked.questions)} held-out questions.\n")
    print_row("model", "accuracy (95 % CI)", "guessing", "preference (95 % CI)", "bits/byte of the references", "seconds")
    print("|---|---|---|---|---|---|")
    models = [answers_of(name, train(corpus, work, steps, seed), asked, figures) for name, steps, seed in runs]
    weak, strong, equal = models
    found, same = compare_on_questions(strong, weak, runs[0][0]), compare_on_questions(equal, strong, runs[1][0])
    print()
    for (name, _, _), one in ((runs[1], found), (runs[2], same)):
        print(f"{name} against {one.against}: {compared_text(one)}")
    print()
    print_row(
        "questions",
        "difference detected, sign-flip test",
        "false `improved`",
        "false `not_worse`",
        "either, percentile bootstrap",
    )
    print("|---|---|---|---|---|")
    worst = 0.0
    for count in [*(one for one in COUNTS if one < weak.scores.questions), weak.scores.questions]:
        power = rate(drawn(strong, weak, count, given.resamples), by_sign_flips, 1)
        pairs = list(exchanged(strong, equal, count, given.resamples))
        wrong = [rate(pairs, by_sign_flips, side) for side in (1, -1)]
        others = sum(rate(pairs, by_percentiles, side) for side in (1, -1))
        worst = max(worst, *wrong)
        print_row(f"{count}", f"{power:.1%}", *(f"{one:.1%}" for one in wrong), f"{others:.1%}")
        figures.add("difference detected", f"{count} questions", power)
        figures.add("false alarms, sign flips", f"{count} questions", sum(wrong))
        figures.add("false alarms, percentile bootstrap", f"{count} questions", others)
    figures.write()
    unlike = same.is_better or same.is_worse
    passed = found.is_better and not unlike and worst <= MOST_ALARMS
    verdicts = (("different steps", found.is_better), ("equal steps", unlike))
    differ = [f"{name} {'' if yes else 'do not '}differ" for name, yes in verdicts]
    wrong_most = f"at most {worst:.1%} of {given.resamples} exchanges are wrong at a gate (allowed: {MOST_ALARMS:.0%})"
    print(f"\n{'PASS' if passed else 'FAIL'}: models of {'; of '.join(differ)}; {wrong_most}")
    return 0 if passed else 1


def made_corpus(path: Path) -> Path:
    """Chats about twelve topics, each with words of its own."""
    draw = random.Random(SEED)
    words = sorted({"".join(draw.choices(_SYLLABLES, k=3)) for _ in range(400)})[:240]
    draw.shuffle(words)
    topics = [words[start : start + 20] for start in range(0, 240, 20)]
    with path.open("w") as file:
        for number in range(3000):
            first, second, *answer = draw.sample(topics[number % len(topics)], 6)
            turns = [("user", f"What do you know of {first} and {second}?"), ("assistant", f"I think of {' '.join(answer)}.")]
            file.write(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
    return path


def held_out_questions(corpus: Path, most: int) -> QuestionSet:
    """Those of the chats that training holds out."""
    documents = read_documents(files_of(corpus), "skip", lambda _: None)
    held_out = [question_of(one) for one in documents if is_validation(one.text, FRACTION)]
    return question_set([one for one in held_out if one], ["held-out"], most)


def train(corpus: Path, work: Path, steps: int, seed: int) -> Path:
    """The output folder of a run, by the command line."""
    out = work / f"model-{steps}-{seed}"
    if best(out):
        return out
    data = corpus if corpus.is_file() else f"{corpus}/**/*"
    options = f"{SHAPE} --max-iters {steps} --eval-interval {steps} --max-minutes 0 --seed {seed} --output-dir {out}"
    command = [sys.executable, "-m", "echoself_action", "train", *options.split(), "--data", str(data), "--on-bad-file", "skip"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit((done.stdout + done.stderr)[-3000:])
    return out


def answers_of(name: str, out: Path, asked: QuestionSet, figures: Figures) -> QuestionFacts:
    """The answers of the best model in a folder; prints a row of the table."""
    folder = best(out)
    assert folder
    model = load_language_model(folder)
    started = time.perf_counter()
    answers = ask_questions(model, asked)
    seconds = time.perf_counter() - started
    scores = answers.scores
    shares = [f"{one.value:.1%} ({one.low:.1%} to {one.high:.1%})" for one in (scores.accuracy, scores.preference)]
    print_row(name, shares[0], f"{scores.chance:.0%}", shares[1], f"{scores.bits_per_byte.value:.4f}", f"{seconds:.1f}")
    figures.add("accuracy", name, scores.accuracy.value)
    figures.add("preference", name, scores.preference.value)
    figures.add("seconds", name, seconds)
    return answers


def drawn(ours: QuestionFacts, theirs: QuestionFacts, count: int, resamples: int) -> Sequence[tuple[Floats, Floats]]:
    """The preferences of both models on `count` questions drawn at random."""
    both, draw = preferences(ours, theirs), np.random.default_rng(SEED)
    chosen = (draw.permutation(both.shape[1])[:count] for _ in range(resamples))
    return [(both[0, one], both[1, one]) for one in chosen]


def exchanged(ours: QuestionFacts, theirs: QuestionFacts, count: int, resamples: int) -> Sequence[tuple[Floats, Floats]]:
    """The same, where the results of each question are exchanged or not: the two are equal."""
    draw = np.random.default_rng(SEED + 1)
    pairs = drawn(ours, theirs, count, resamples)
    swaps = (draw.random(count) < 0.5 for _ in pairs)
    return [(np.where(one, b, a), np.where(one, a, b)) for one, (a, b) in zip(swaps, pairs, strict=True)]


def preferences(ours: QuestionFacts, theirs: QuestionFacts) -> Floats:
    """(2, questions)"""
    return np.array([ours.preferences, theirs.preferences])


def rate(pairs: Sequence[tuple[Floats, Floats]], rule: Rule, side: int) -> float:
    """How often the rule finds that the first model is better (`side` 1) or worse (-1)."""
    return sum(rule(ours, theirs) == side for ours, theirs in pairs) / len(pairs)


def by_sign_flips(ours: Floats, theirs: Floats) -> float:
    found = paired_difference(ours.tolist(), theirs.tolist())
    return float(np.sign(found.mean)) if found.p_value <= 0.05 else 0.0


def by_percentiles(ours: Floats, theirs: Floats) -> float:
    differences = ours - theirs
    draws = np.random.default_rng(SEED).integers(len(differences), size=(2000, len(differences)))
    low, high = np.quantile(differences[draws].mean(1), [0.025, 0.975])
    return 1.0 if low > 0 else -1.0 if high < 0 else 0.0


if __name__ == "__main__":
    main()
