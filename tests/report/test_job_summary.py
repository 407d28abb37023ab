from dataclasses import replace
from datetime import UTC, datetime
from math import log

import pytest

from echoself_action.checkpoint.metadata import BITS_PER_BYTE, Comparison, Evaluation, ParityFacts
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.corpus.findings import Finding
from echoself_action.evaluation.gate import Verdict
from echoself_action.hub.history import History, HistoryEntry
from echoself_action.hub.publish import Change, CommitResult
from echoself_action.report.job_summary import (
    ending_summary,
    publishing_summary,
    pulling_summary,
    refusal_summary,
    training_summary,
)
from echoself_action.training.trainer import Result


def trained(folder: ModelFolder, evaluations: int = 2, begun_at: float | None = 3.0) -> tuple[Result, ModelFolder]:
    assert folder.metadata
    measured = [Evaluation(step=10 * number, val_loss=3 - number / 1000) for number in range(evaluations)]
    facts = folder.metadata.model_copy(
        update={"step": 1000, "train_loss": 2.25, "val_loss": 2.5, "evaluations": measured, "bytes_per_token": 2.0}
    )
    best = ModelFolder(folder.path, folder.config, facts)
    before = Evaluation(step=480, val_loss=begun_at) if begun_at else None
    return Result(best, 500, 3.5, before, 1234.5, 60.0, 3.0, 0.6, "max_iters"), best


def test_training_summary_starts_with_the_result_and_names_the_next_step(model_folder: ModelFolder) -> None:
    text = training_summary(*trained(model_folder), "Once upon a time")
    loss = "1.8034 bits per byte (2.5000 nats per token)"
    assert text.splitlines()[0] == f"## Trained from step 500 to 1,000: validation loss {loss}"
    assert f"| Validation loss | {loss} |" in text
    assert "| Training loss | 2.2500 nats per token |" in text
    assert "Run again to continue training" in text
    assert "| step | 480 | 1,000 |" in text  # the best before, not the checkpoint that training resumed from
    assert "| bits per byte | 2.1640 | 1.8034 | -0.3607 |" in text
    assert "| nats per token | 3.0000 | 2.5000 | -0.5000 |" in text
    assert 'y-axis "bits per byte"' in text
    assert "line [2.1640, 2.1633]" in text
    assert "    Once upon a time" in text


def test_training_summary_shows_compile_time_and_mfu_if_known(model_folder: ModelFolder) -> None:
    result, best = trained(model_folder)
    assert "| Speed | 1,234 tokens/s, 1.0 minutes |" in training_summary(result, best, "")
    assert "| Of that time | evaluations 5.0%, saves 1.0% |" in training_summary(result, best, "")
    text = training_summary(replace(result, compiling_s=15.0, mfu=0.456), best, "")
    assert "| Speed | 1,234 tokens/s (46% MFU), 1.0 minutes |" in text
    assert "| Of that time | evaluations 5.0%, saves 1.0%, compiling 25.0% |" in text


def test_training_summary_says_what_is_in_both_splits(model_folder: ModelFolder) -> None:
    result, best = trained(model_folder)
    assert "In both splits" not in training_summary(result, best, "")
    assert best.metadata
    assert best.metadata.data
    data = best.metadata.data.model_copy(update={"leaked_bytes": 5624, "common_bytes": 5711})
    text = training_summary(result, replace(best, metadata=best.metadata.model_copy(update={"data": data})), "")
    assert "| In both splits | 5,624 bytes were left out of training, because they are in the held-out text too; 5,711 " in text


def test_where_the_gate_compares_its_figures_are_the_ones_before_and_after(model_folder: ModelFolder) -> None:
    assert "| before |" not in training_summary(*trained(model_folder), "", gate_compares=True)
    compared = Comparison(
        against="c0ffee", candidate=1.8, published=1.9, low=-0.12, high=-0.08, unit="bits per byte", windows=64, tokens=4096
    )
    text = refusal_summary("http://hub/a/b", Verdict(False, "not significantly better", compared))
    assert "| bits per byte | 1.9000 | 1.8000 | -0.1000 |" in text
    assert "nats" not in text


def test_a_first_run_has_no_comparison_with_before(model_folder: ModelFolder) -> None:
    assert "| before |" not in training_summary(*trained(model_folder, begun_at=None), "")


def test_a_long_history_is_downsampled_and_ends_with_the_last_point(model_folder: ModelFolder) -> None:
    text = training_summary(*trained(model_folder, evaluations=1001), "")
    [axis] = [line for line in text.splitlines() if "x-axis" in line]
    assert axis.endswith(", 10000]")
    assert axis.count(",") <= 40
    assert len(text) < 5000


def test_a_sample_cannot_break_out_of_its_code_block(model_folder: ModelFolder) -> None:
    text = training_summary(*trained(model_folder), "```\n# Hacked\n</pre>")
    assert "\n# Hacked" not in text


def test_publishing_summary_lists_files_and_parity(model_folder: ModelFolder) -> None:
    published = CommitResult("c0ffee", True, (Change("model.safetensors", b"", 1234, True),))
    parity = ParityFacts(tensors=28, max_abs_diff=1e-6, argmax_agreement=1.0, positions=1024)
    text = publishing_summary("http://hub/a/b", published, parity, Verdict(True, "it is the first to be published"))
    assert "Gate: it is the first to be published." in text
    assert "| `model.safetensors` | 1,234 |" in text
    assert "[http://hub/a/b](http://hub/a/b)" in text
    assert "all 28 tensors match" in text
    assert "max absolute logit difference 1.0e-06, top-1 agreement 100% at 1024 positions" in text
    assert "already contains this model" in publishing_summary(
        "http://hub/a/b", CommitResult("c0ffee", False, ()), parity, Verdict(True, "")
    )


def test_pulling_summary_names_the_folder(model_folder: ModelFolder) -> None:
    assert str(model_folder.path) in pulling_summary("http://hub/a/b", "main", "c0ffee", model_folder)


@pytest.mark.parametrize(
    ("result", "first"),
    [
        ("published", "# Published: 2.5000 bits per byte, 2.6000 before"),
        ("advanced", "# Advanced to step 1,000, run 2 since the last publish"),
        ("rolled_back", "# Rolled back to step 1,000: the best model stays at 2.5000 bits per byte"),
        ("converged", "# Converged at 2.5000 bits per byte: no steps were trained"),
    ],
)
def test_the_first_line_is_the_result_in_words_and_one_number(model_folder: ModelFolder, result: str, first: str) -> None:
    facts = model_folder.metadata
    assert facts
    folder = replace(
        model_folder, metadata=facts.model_copy(update={"step": 1000, "val_loss": 2.5 * log(2), "bytes_per_token": 1.0})
    )
    compared = Comparison(
        against="c0ffee", candidate=2.5, published=2.6, low=-0.2, high=0.1, unit=BITS_PER_BYTE, windows=9, tokens=99
    )
    at = datetime(2026, 11, 29, tzinfo=UTC)
    facts_of_a_run = {"published_at": at, "run_id": "x", "step": 1, "tokens_seen": 1, "elapsed_s": 1.0, "weights_sha256": ""}
    results = ("published", "advanced", "advanced")
    history = History(b"", tuple(HistoryEntry.model_validate(facts_of_a_run | {"result": one}) for one in results))
    text = ending_summary(result, "the reason", (folder, folder), Verdict(False, "not better", compared), history)
    assert text.splitlines()[0] == first


def test_training_summary_lists_what_was_not_learnt(model_folder: ModelFolder) -> None:
    result, best = trained(model_folder)
    assert "Not learnt" not in training_summary(result, best, "")
    found = (Finding("skipped records", "a|b.jsonl", 1200, "line 2 has an empty `text`"), Finding("odd characters", "", 1, "é"))
    text = training_summary(result, best, "", findings=found)
    assert "### Not learnt as it is in the files" in text
    assert "| skipped records | `a\\|b.jsonl` | 1,200 | `line 2 has an empty 'text'` |" in text
    assert "| odd characters |  | 1 | `é` |" in text
