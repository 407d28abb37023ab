"""train: find the checkpoint to resume from, tokenize the corpus, train, and report the result."""

import time
from dataclasses import dataclass, replace
from typing import Any

from ..checkpoint.architectures import ARCHITECTURES, DEFAULT
from ..checkpoint.metadata import Evaluation
from ..checkpoint.model_folder import ModelFolder
from ..checkpoint.select import best, resumable
from ..checkpoint.weights import load_model
from ..config.mode_inputs import TrainInputs
from ..config.outputs import set_outputs
from ..errors import INTERRUPTED
from ..evaluation.generation import sample
from ..hub.secrets import without_secrets
from ..model import ModelConfig
from ..native.gpt2_block import why_not as why_not_native
from ..report.github_actions import model_outputs, write_summary
from ..report.job_summary import training_summary
from ..report.log import ProgressPrinter, note, part, show_sample, warn
from ..report.report_page import write_page
from ..starting.pretrained import is_fine_tuned, require_same_shape, with_init_from
from ..starting.resume import set_aside_other_runs, starting_point
from ..starting.tokenize_corpus import corpus_tokens
from ..training.distributed.process_group import join_process_group
from ..training.init_or_resume import new_run, resume_run
from ..training.optim.optimizers import OPTIMIZERS, OptimizerName
from ..training.precision import choose_device
from ..training.result import LOG_FILE, Callbacks, Result, stop_on_signals
from ..training.run import Data, Run
from ..training.trainer import train
from .multiprocess import run_in_processes


@dataclass(frozen=True)
class Trained:
    """The result of training: the best checkpoint, the one that training resumes from, and a sample from the best."""

    result: Result
    best: ModelFolder
    resumable: ModelFolder
    sample: str

    @property
    def interrupted(self) -> bool:
        return self.result.stopped_by == "signal"


def run(inputs: TrainInputs) -> int:
    """Run the mode; returns the exit code."""
    return run_in_processes(inputs, _run)


def _run(inputs: TrainInputs) -> int:
    started = time.monotonic()
    trained = train_model(inputs, starting_point(inputs), started)
    set_outputs(report_training(inputs, trained))
    return INTERRUPTED if trained.interrupted else 0


def train_model(inputs: TrainInputs, start: ModelFolder | None, started: float) -> Trained:
    """Resume from `start`; if it is None, train a new model, from `init_from` or from random weights.

    `started` is when the job began (time.monotonic()).
    """
    start = with_init_from(inputs, start)
    if start:
        require_same_shape(
            inputs,
            start.config,
            f"{start.path} cannot be resumed with a different shape",
            "Remove these inputs, or start a new model with resume: never and confirm_fresh_start: true.",
        )
        start = _with_dropout(inputs, start)
    settings = inputs.training_settings(_default_optimizer(inputs, start), fine_tunes=is_fine_tuned(start))
    with part("Corpus"):
        data = Data(corpus_tokens(inputs, start), inputs.data)
    device = choose_device(settings).type
    with part("Training"), stop_on_signals() as stop, join_process_group(device) as process_group, ProgressPrinter() as printer:
        if start:
            training = resume_run(start, data, settings, note, process_group)
        else:
            training = new_run(_new_config(inputs, data.tokens.tokenizer.vocab_size), data, settings, process_group)
        set_aside_other_runs(inputs.output_dir, start)
        _log_start(training)
        before = best(inputs.output_dir)
        result = train(training, inputs.output_dir, stop, Callbacks(printer, warn, note), started)
    result = _with_best_before(result, before, training)
    chosen = best(inputs.output_dir) or result.latest
    text = "" if stop.requested else without_secrets(sample(load_model(chosen), data.tokens.tokenizer))
    _log_end(result, chosen, text)
    return Trained(result, chosen, resumable(inputs.output_dir)[0], text)


def report_training(inputs: TrainInputs, trained: Trained, gate_compares: bool = False) -> dict[str, str]:
    """Write the job summary and report.html; returns the outputs of training.

    `gate_compares`: whether the quality gate will compare the model with the published one, and report the change.
    """
    write_summary(training_summary(trained.result, trained.best, trained.sample, gate_compares))
    page = write_page(inputs.output_dir, inputs.output_dir / LOG_FILE, trained.best, [trained.sample], None)
    return model_outputs(trained.best) | {
        "checkpoint": str(trained.result.latest.path),
        "tokens_per_second": f"{trained.result.tokens_per_second:.0f}",
        "stopped_by": trained.result.stopped_by,
        "report": str(page),
    }


def _with_best_before(result: Result, before: ModelFolder | None, run: Run) -> Result:
    """`result` with the best checkpoint before the run, if it was evaluated on the same held-out text.

    The start of a run knows only the losses that led to it, not that of the decay phase that started from it.
    """
    facts, known = before.metadata if before else None, result.best_before
    if not facts or facts.val_loss is None or facts.run_id != run.run_id or (known and known.val_loss <= facts.val_loss):
        return result
    tokens = run.data.tokens
    if not facts.is_measured_on(tokens.digest, tokens.val_digest, run.settings.eval_tokens):
        return result
    return replace(result, best_before=Evaluation(step=facts.step, val_loss=facts.val_loss))


def _new_config(inputs: TrainInputs, vocab_size: int) -> ModelConfig:
    shape: dict[str, Any] = {name: inputs.size(name) for name in ("block_size", "n_layer", "n_head", "n_embd", "dropout")}
    shape |= {"vocab_size": vocab_size, "bias": inputs.bias is not False}
    architecture = ARCHITECTURES[inputs.architecture or DEFAULT.name]
    options = {name: getattr(inputs, name) for name in architecture.own_inputs}
    return architecture.config.new_config(shape, options, inputs.size("max_iters"))


def _default_optimizer(inputs: TrainInputs, start: ModelFolder | None) -> OptimizerName:
    """The optimizer of the checkpoint, because another could not use its state; for a new model, that of its architecture."""
    if start is None:
        return ARCHITECTURES[inputs.architecture or DEFAULT.name].default_optimizer
    before = start.metadata.settings.get("optimizer") if start.metadata else None
    return next((name for name in OPTIMIZERS if name == before), "adamw")  # also for checkpoints of other programs


def _with_dropout(inputs: TrainInputs, start: ModelFolder) -> ModelFolder:
    if inputs.dropout is None:
        return start
    if inputs.dropout != start.config.dropout:
        note(f"dropout changes from {start.config.dropout} to {inputs.dropout} at step {start.step}.")
    return replace(start, config=start.config.with_dropout(inputs.dropout))


def _log_start(training: Run) -> None:
    config, precision = training.model.config, training.precision
    dtype = precision.dtype_name
    begins = f"resuming at step {training.step}" if training.step else "new model"
    note(
        f"{begins}: {training.model.parameter_count():,} parameters ({config.n_layer} layers, {config.n_head} heads, width "
        f"{config.n_embd}, block {config.block_size}), {dtype} on {precision.device}"
        f"{_processes(training)}"
    )
    eager_bfloat16 = training.kernels == "eager" and precision.device.type == "cpu" and dtype == "bfloat16"
    if eager_bfloat16 and (reason := why_not_native(training.model, precision.dtype)):
        note(f"native kernels disabled (slower): {reason}")


def _processes(training: Run) -> str:
    size = training.process_group.world_size
    return "" if size == 1 else f", in {size} processes{' with sharding' if training.sharded else ''}"


def _log_end(result: Result, chosen: ModelFolder, text: str) -> None:
    facts = chosen.metadata
    assert facts
    note(
        f"\nstopped by {result.stopped_by} at step {result.latest.step}, at {result.tokens_per_second:,.0f} tokens/s; newest "
        f"checkpoint {result.latest.path}"
    )
    note(f"best model {chosen.path}, step {chosen.step}, validation loss {facts.val_loss_text}")
    if text:
        note("sample:")
        show_sample(text)
