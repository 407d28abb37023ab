"""The job summary: what its first lines say for each end of a run, and what a browser shows of it on GitHub."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echoself_action.checkpoint.metadata import BITS_PER_BYTE, Comparison, Evaluation, ParityFacts, Sample
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.corpus.findings import Finding
from echoself_action.errors import CheckpointError, InputError
from echoself_action.evaluation.gate import Verdict
from echoself_action.evaluation.paired_bootstrap import Scores
from echoself_action.evaluation.ranking import RankedModel, rank
from echoself_action.formats.registry import Exported
from echoself_action.hub.history import History, HistoryEntry
from echoself_action.hub.publish import Change, CommitResult
from echoself_action.report.job_summary.compare_summary import compare_summary
from echoself_action.report.job_summary.failure_summary import bug_summary, failure_of
from echoself_action.report.job_summary.layout import JobSummary, sample_markdown
from echoself_action.report.job_summary.loss_curve import loss_curve, training_curve
from echoself_action.report.job_summary.models_summary import model_section, models_summary
from echoself_action.report.job_summary.pull_summary import NamedExport, import_summary, pull_summary
from echoself_action.report.job_summary.run_summary import PublishOutcome, RunOutcome, run_summary
from echoself_action.training.result import Result

from .github_page import Theme, contrast, look_at_markdown

URL = "https://hub.test/me/model"
ARROW = "\N{RIGHTWARDS ARROW}"
CHANGE = f"2.6000 {ARROW} 2.5000 {BITS_PER_BYTE}"
COMPARED = Comparison(
    against="c0ffee", candidate=2.5, published=2.6, low=-0.2, high=-0.1, unit=BITS_PER_BYTE, windows=9, tokens=99
)
BETTER = Verdict(True, "significantly better than the published model: 2.5 vs. 2.6", COMPARED)
NOT_BETTER = Verdict(False, "not significantly better than the published model: 2.5 vs. 2.6", COMPARED)
SENT = CommitResult("c0ffee" * 6 + "c0ff", True, (Change("model.safetensors", b"", 1234, True),))
PARITY = ParityFacts(tensors=28, max_abs_diff=1e-6, argmax_agreement=1.0, positions=1024)
SAMPLE = Sample(prompt="Tom goes along", continuation=" the river.\n\n    and back", from_corpus=True)


@pytest.fixture
def model(model_folder: ModelFolder) -> ModelFolder:
    """A model at step 1,000 with 2.5 bits per byte."""
    assert model_folder.metadata
    evaluations = [Evaluation(step=step, val_loss=3 - step / 10_000) for step in range(100, 1001, 100)]
    facts = {"step": 1000, "val_loss": 2.5 * log(2), "train_loss": 2.25, "bytes_per_token": 1.0, "evaluations": evaluations}
    return replace(model_folder, metadata=model_folder.metadata.model_copy(update=facts))


def trained(model: ModelFolder, **changes: Any) -> Result:
    before = Evaluation(step=480, val_loss=2.75 * log(2))
    return replace(Result(model, 500, 3.5, before, 1234.5, 60.0, 3.0, 0.6, "max_iters"), **changes)


def outcome(model: ModelFolder, result: str, publishing: PublishOutcome | None, trains: bool = True, **more: Any) -> RunOutcome:
    training = trained(model) if trains and result != "converged" else None
    return RunOutcome(result, model, model, training=training, trains=trains, publishing=publishing, **more)


def publish(verdict: Verdict | None, **more: Any) -> PublishOutcome:
    return PublishOutcome(URL, more.pop("gate", "improved"), verdict, **more)


def history(*results: str) -> History:
    facts: dict[str, Any] = {"run_id": "x", "step": 1, "tokens_seen": 1, "elapsed_s": 1.0, "weights_sha256": ""}
    facts["published_at"] = datetime(2026, 11, 29, tzinfo=UTC)
    return History(b"", tuple(HistoryEntry.model_validate(facts | {"result": one}) for one in results))


RANGES = [(1, 3, 1), (1, 13, 1), (10, 180, 10), (7, 343, 21), (333, 12_987, 333), (100_000, 1_100_000, 100_000), (1, 20, 3)]
FAILED = Verdict(False, "the held-out loss is 2.5 nats per token, above the maximum of 1")
FIRST = Verdict(True, "it is the first to be published")
ENDS: dict[str, tuple[str, PublishOutcome | None, bool, str, str]] = {
    "published": ("published", publish(BETTER, commit=SENT), True, f"Published: {CHANGE}", "load it with"),
    "first": ("published", publish(FIRST, commit=SENT), True, f"Published: 2.5000 {BITS_PER_BYTE}", "load it with"),
    "advanced": (
        *("advanced", publish(NOT_BETTER, sends_state=True), True),
        *(f"Advanced to step 1,000: {CHANGE} is not significantly better", "resumes from step 1,000"),
    ),
    "no better model": (
        *("advanced", publish(FIRST, commit=replace(SENT, deployed=False)), True),
        *(f"Advanced to step 1,000: no better model than the published one, 2.5000 {BITS_PER_BYTE}", "nothing to do"),
    ),
    "rolled back": (
        *("rolled_back", publish(NOT_BETTER), True),
        *(f"Rolled back to step 1,000: the best model stays at 2.5000 {BITS_PER_BYTE}", "with other batches"),
    ),
    "converged": (
        "converged", publish(None), True, f"Converged at 2.5000 {BITS_PER_BYTE}: no steps were trained", "add text"
    ),
    "refused": (
        *("advanced", publish(FAILED, gate="max_val_loss=1"), True),
        *(f"Advanced to step 1,000: 2.5000 {BITS_PER_BYTE} did not pass the gate max_val_loss=1", "set another `gate`"),
    ),
    "refused deploy": (
        *("", publish(NOT_BETTER), False),
        *(f"Not published: {CHANGE} is not significantly better", "train further"),
    ),
    "deploy": ("published", publish(BETTER, commit=SENT), False, "Published: 2.6000", "or train it further with `mode: cycle`"),
    "nothing": (
        *("", publish(Verdict(True, "its weights are already published"), commit=replace(SENT, deployed=False)), False),
        *(f"Nothing to publish: the Hub has this model, 2.5000 {BITS_PER_BYTE}", "train it further"),
    ),
    "dry run": ("", publish(BETTER, is_dry_run=True), False, "Dry run: would be published: 2.6000", "Set `dry_run: false`"),
    "proposed": (
        *("", publish(BETTER, commit=replace(SENT, deployed=False, pr_url=f"{URL}/pull/1"), proposal="text"), False),
        *("Proposed as a pull request: 2.6000", f"[the pull request]({URL}/pull/1)"),
    ),
    "train": ("advanced", None, True, f"Advanced to step 1,000: 2.7500 {ARROW} 2.5000 {BITS_PER_BYTE}", "`mode: deploy`"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_the_first_line_is_the_result_and_one_number_and_the_next_step_fits(model: ModelFolder, name: str) -> None:
    result, publishing, trains, title, next_step = ENDS[name]
    text = run_summary(outcome(model, result, publishing, trains, sample=SAMPLE)).markdown()
    assert text.startswith(f"# {title}")
    visible = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
    [line] = [line for line in visible.splitlines() if line.startswith("**Next:** ")]
    assert next_step in line
    assert [visible.count(part) for part in ("```mermaid", "<b>Tom goes along</b>", "\n# ")] == [1, 1, 0]


def test_what_a_cycle_has_trained_is_there_before_its_publish_is_done(model: ModelFolder) -> None:
    text = run_summary(replace(outcome(model, "advanced", None), will_publish=True)).markdown()
    assert text.startswith("# Trained to step 1,000: 2.7500")
    assert "**Next:**" not in text


def test_figures_files_and_checks_are_folded_and_each_number_is_there_once(model: ModelFolder) -> None:
    publishing = publish(BETTER, commit=SENT, parity=PARITY, tag="v1", documents="https://hub.test/datasets/me/docs/tree/1")
    text = run_summary(outcome(model, "published", publishing)).markdown()
    visible, _, folded = text.partition("<details>")
    assert "95 % CI of the difference -0.2000 to -0.1000" in visible
    assert f"[`c0ffeec`]({URL}/commit/{SENT.commit})" in visible
    assert text.count("| bits per byte | 2.6000 | 2.5000 | -0.1000 |") == 1
    for part in (
        "| Training loss | 2.2500 nats per token |",
        "| Steps of this run | 500 to 1,000 |",
        "| Speed | 1,234 tokens/s, 1.0 minutes |",
        "| Of that time | evaluations 5.0%, saves 1.0% |",
        "| `model.safetensors` | 1,234 |",
        "Tag `v1`.",
        "all 28 tensors match",
        "[Documents](https://hub.test/datasets/me/docs/tree/1)",
    ):
        assert part in folded
        assert part not in visible
    slow = outcome(model, "published", publishing)
    slow = replace(slow, training=trained(model, compiling_s=15.0, mfu=0.456, stopped_by="max_minutes", planned_steps=900))
    text = run_summary(slow).markdown()
    assert "The run stopped at its time limit. It took 500 of 900 planned steps." in text.partition("<details>")[0]
    assert "| Speed | 1,234 tokens/s (46% MFU), 1.0 minutes |" in text
    assert "saves 1.0%, compiling 25.0% |" in text


def test_the_runs_since_the_last_publish_are_counted(model: ModelFolder) -> None:
    publishing = publish(NOT_BETTER, history=history("published", "advanced", "advanced"))
    assert "This is run 2 since the last publish." in run_summary(outcome(model, "advanced", publishing)).markdown()


def test_what_ppmd_needs_is_beside_bits_per_byte_if_it_is_known(model: ModelFolder) -> None:
    assert model.metadata
    assert model.metadata.data
    data = model.metadata.data
    for known, shown in ((2.25, "PPMd, needs 2.2500."), (None, "lower is better.\n")):
        facts = model.metadata.model_copy(update={"data": data.model_copy(update={"ppmd_bits_per_byte": known})})
        text = run_summary(outcome(replace(model, metadata=facts), "advanced", None)).markdown()
        assert shown in text.partition("```mermaid")[0]


def test_what_was_not_learnt_is_not_folded_and_what_is_only_said_is(model: ModelFolder) -> None:
    lost = Finding("skipped records", "a|b.jsonl", 1200, "line 2 has an empty `text`")
    text = run_summary(
        outcome(model, "advanced", None, findings=(lost, Finding("odd characters", "", 1, "é", is_loss=False)))
    ).markdown()
    visible, _, folded = text.partition("<details>")
    assert "- skipped records (1,200) in `a|b.jsonl`: `line 2 has an empty 'text'`" in visible
    assert "- odd characters (1): `é`" in folded
    assert "Not learnt" not in run_summary(outcome(model, "advanced", None)).markdown()
    many = run_summary(outcome(model, "advanced", None, findings=[lost] * 8)).markdown()
    assert many.partition("<details>")[0].count("skipped records") == 5
    assert many.count("skipped records") == 8


def test_what_is_assumed_about_a_model_is_not_folded(model: ModelFolder) -> None:
    assert model.metadata
    assumed = model.metadata.model_copy(update={"assumptions": ("the activation is gelu_new",)})
    text = run_summary(outcome(replace(model, metadata=assumed), "published", publish(BETTER, commit=SENT))).markdown()
    assert r"| Assumed | the activation is gelu\_new |" in text.partition("<details>")[0]


def test_pulled_imported_and_exported_models(model: ModelFolder) -> None:
    exported = NamedExport("nanoGPT", Exported(Path("out/ckpt.pt"), "python train.py", ("dropout is not kept",)))
    text = pull_summary(URL, "main", "c0ffee" * 7, model, model, [exported]).markdown()
    assert text.startswith(f"# Pulled step 1,000 of me/model: 2.5000 {BITS_PER_BYTE}\n")
    assert "**Exported for nanoGPT:** `out/ckpt.pt`. Resume there with `python train.py`.\n\n- Dropout is not kept." in text
    assert f"**Next:** load it with transformers from `{model.path}`" in text
    assert import_summary(model, model).markdown().startswith(f"# Imported step 1,000 of {model.path}\n")


def ranked(name: str, loss: float) -> RankedModel:
    spread = np.random.default_rng(0).normal(loss, 0.01, 32)
    scores = Scores(spread * 100, np.full(32, 100.0), np.full(32, 400.0), 1.0, "digest")
    return RankedModel(name, "here", 1200, "gpt2", "bytes", 10, 40, scores, ("once", f"upon {name}"), 5.0)


def test_a_comparison_names_the_winner_its_number_and_a_sample() -> None:
    ranking = rank("8 windows", ("", "It was"), [ranked("old", 3.0), ranked("new", 2.9)])
    text = compare_summary(ranking, Path("compare.html")).markdown()
    assert re.match(
        rf"# new is significantly better than every other candidate: 1\.08\d\d {ARROW} 1\.04\d\d bits per byte\n", text
    )
    assert re.search(r"\| `new` \| 1\.04\d\d \| significantly better: -0\.\d{4} \(95 % CI -0", text)
    assert "> <b>It was</b>upon new" in text
    assert "**Next:** use `new`" in text
    same = rank("8 windows", ("", "It was"), [ranked("old", 3.0), ranked("new", 3.0)])
    assert "keep the model that you have" in compare_summary(same, Path("compare.html")).markdown()


def test_several_models_start_with_a_table_and_failures_are_open() -> None:
    outputs = {"a": {"result": "rolled_back", "bits_per_byte": "2.512345", "step": "5"}, "b": {}}
    text = models_summary({"a": 0, "b": 0, "c": 0}, {"a": 0, "b": 3}, outputs).markdown()
    assert text.startswith("# 3 models: 1 rolled back, 1 unusable checkpoint, corpus or model, 1 not run\n")
    assert "| `a` | rolled back | 2.5123 |\n" in text
    section = model_section("b", 3, {}, "# Failed: x\n\n## y\n")
    assert section.startswith(
        "<details open><summary>b: unusable checkpoint, corpus or model</summary>\n\n### Failed: x\n\n## y"
    )
    section = model_section("<a>", 0, {"result": "rolled_back"}, "")
    assert section.startswith("<details><summary>&lt;a&gt;: rolled back</summary>")


def test_a_failure_says_what_was_wrong_what_was_not_done_and_what_to_change() -> None:
    error = CheckpointError("model_a.pt is no *model*. It was not used.", "Use another file:\n  settings: |\n    a: 1")
    assert failure_of(error) == (
        "# Failed: model_a.pt is no \\*model\\*\n\nIt was not used.\n\n**To do:** Use another file:\n\n"
        "      settings: |\n        a: 1\n"
    )
    long = failure_of(InputError("x" * 300))
    assert long.startswith("# Failed: invalid input\n\nxxx")
    problems = failure_of(InputError("2 inputs are invalid.", problems=[InputError("a is 1.", "Use 2."), InputError("- b")]))
    assert problems == "# Failed: 2 inputs are invalid\n\n- a is 1.\n\n  **To do:** Use 2.\n\n- \\- b\n"
    bug = bug_summary(RuntimeError("</pre>\nsecond"), "https://github.test/new")
    assert bug.startswith("# Failed: a bug in echoself-action\n\n    RuntimeError: </pre>\n\n")
    assert "[report it](https://github.test/new)" in bug


def test_a_long_curve_has_forty_points_and_ends_with_the_last(model: ModelFolder) -> None:
    assert model.metadata
    measured = [Evaluation(step=10 * number, val_loss=(3 - number / 1000) * log(2)) for number in range(1, 1002)]
    chart = training_curve(model.metadata.model_copy(update={"evaluations": measured}))
    [line] = re.findall(r"line \[(.*)\]", chart)
    points = line.split(", ")
    assert (len(points), points[0], points[-1]) == (40, "2.9990", "1.9990")
    assert 'x-axis "step, thousands" 0.01 --> 10.0099' in chart
    assert training_curve(model.metadata.model_copy(update={"evaluations": measured[:1]})) == ""


def test_points_at_uneven_steps_are_where_they_were_measured() -> None:
    chart = loss_curve("Loss", "step", "nats per token", [(0, 4.0), (10, 3.0), (390, 1.1)])
    [line] = re.findall(r"line \[(.*)\]", chart)
    points = [float(point) for point in line.split(", ")]
    assert (points[0], points[1], points[-1]) == (4.0, 3.0, 1.1)
    assert points[20] == pytest.approx(3 - 1.9 / 2, abs=1e-4)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_browser_shows_the_curve_in_both_themes_and_on_a_phone(model: ModelFolder, tmp_path: Path, theme: Theme) -> None:
    page = look_at_markdown(run_summary(outcome(model, "advanced", None, sample=SAMPLE)).markdown(), theme, 390, tmp_path)
    assert page.facts["errors"] == page.facts["cut"] == []
    [chart] = page.facts["charts"]
    assert chart["points"] == [10]
    canvas = page.facts["canvas"]
    assert chart["background"] == "rgba(0, 0, 0, 0)"  # that of the page
    assert [contrast(line, canvas) > 3 for line in chart["lines"]] == [True]
    assert {"Loss on held-out text", "step", "bits per byte"} <= {text["text"] for text in chart["texts"]}
    assert all(contrast(text["colour"], canvas) > 4.5 for text in chart["texts"])
    assert min(text["size"] for text in chart["texts"]) > 8


def test_a_browser_shows_every_point(tmp_path: Path) -> None:
    """Mermaid 11 leaves out the last one where its sum of distances is rounded up."""
    curves = [[(step, 9.0 - step / last) for step in range(first, last + 1, stride)] for first, last, stride in RANGES]
    text = "\n\n".join(loss_curve("Loss", "step", "nats per token", points) for points in curves)
    page = look_at_markdown(text, "light", 1012, tmp_path)
    assert [chart["points"] for chart in page.facts["charts"]] == [[len(points)] for points in curves]
    assert all(
        f"{points[-1][0]}" not in [text["text"] for text in chart["texts"]]
        for chart, points in zip(page.facts["charts"], curves, strict=True)
        if points[-1][0] > 99
    )


def test_text_of_a_model_or_a_corpus_is_shown_as_it_is(tmp_path: Path) -> None:
    hostile = "**a** _b_ `c` <h1>d</h1> [e](f) ![g](h) ~~i~~ $j$ &amp; | # 1\n# k\n\n- l\n> m\n```\n</details>\n    n  o @p"
    hostile += "\x1b[1m"
    sample = sample_markdown(Sample(prompt=hostile, continuation=hostile, from_corpus=True))
    text = JobSummary("# a <b> *c* _d_ `e`", lead=["lead"]).markdown() + "\n" + sample
    page = look_at_markdown(text, "light", 1012, tmp_path)
    shown = re.sub(r"\s+", " ", page.facts["text"])
    flat = re.sub(r"\s+", " ", hostile.replace("\x1b", "\N{REPLACEMENT CHARACTER}"))
    assert shown.count(flat) == 2
    assert shown.startswith("# a <b> *c* _d_ `e` lead")
    html = page.path.read_text().partition("<article")[2].partition("</article>")[0]
    tags = set(re.findall(r"</?(\w+)", html))
    assert tags == {"h1", "p", "blockquote", "b", "br"}
