"""train: find the checkpoint to resume from, tokenize the corpus, train, and report the result."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .. import evaluation
from ..checkpoint.architectures import ARCHITECTURES, DEFAULT, NANECHO
from ..checkpoint.metadata import Ending, Sample
from ..checkpoint.model_folder import ModelFolder
from ..checkpoint.select import best, resumable
from ..config.mode_inputs import TrainInputs
from ..config.outputs import set_outputs
from ..corpus.findings import Finding
from ..corpus.tokens import Tokens
from ..errors import INTERRUPTED, DivergedError, is_out_of_memory
from ..evaluation.questions.question_set import QuestionSet
from ..formats.learning_phases import original_meanings
from ..formats.runtimes.export_files import require_exportable, selected
from ..hub.cards.introspection_text import summary_text
from ..input_field import PUBLISHES
from ..native.models import why_not as why_not_native
from ..preflight.corpus_facts import files_check, questions_check
from ..preflight.machine import machine_check
from ..publishing.exports import naming_demo
from ..publishing.fidelity_scores import with_fidelity
from ..publishing.question_scores import with_questions
from ..publishing.sample import with_sample
from ..report.checks import PreflightCheck, checks_summary, show_checks
from ..report.github_actions import model_outputs, write_summary
from ..report.job_summary.run_summary import RunOutcome, run_summary
from ..report.log import ProgressPrinter, note, part, show_sample, warn
from ..report.report_page import write_page
from ..starting.load_questions import load_questions
from ..starting.next_start import FinishedRun
from ..starting.pretrained import is_fine_tuned, require_same_shape, with_init_from
from ..starting.resume import optimizer_of, set_aside_other_runs, starting_point
from ..starting.sizing import new_config
from ..starting.tokenize_corpus import corpus_tokens
from ..starting.weighted_files import require_growing_connections
from ..training.distributed.process_group import SINGLE_PROCESS, ProcessGroup, join_process_group
from ..training.init_or_resume import new_run, resume_run, send_no_run
from ..training.optim.optimizers import OptimizerName
from ..training.precision import choose_device, no_gpu_reason
from ..training.result import LOG_FILE, Callbacks, Result, stop_on_signals
from ..training.run import Data, Run
from ..training.run_end import converged, end_of
from ..training.trainer import train
from ..training.training_state import read_counters
from .multiprocess import run_in_processes


@dataclass(frozen=True)
class Trained:
    """The end of a run: the best checkpoint, the one that training resumes from, and a sample from the best.

    `result` is None if no steps were trained, or if a loss became NaN. `reason` is why the run was rolled back, or why the
    model has converged. `roll_back` rolls the run back for a reason that was found later. `findings` are those of the corpus,
    `questions` those of `evaluate`.
    """

    ending: Ending
    result: Result | None
    best: ModelFolder
    resumable: ModelFolder
    sample: Sample | None = None
    reason: str = ""
    roll_back: Callable[[str], ModelFolder] | None = None
    findings: Sequence[Finding] = ()
    questions: QuestionSet | None = None

    @property
    def interrupted(self) -> bool:
        return self.result is not None and self.result.stopped_by == "signal"

    @property
    def outcome(self) -> RunOutcome:
        """What the job summary reports, without a publish."""
        return RunOutcome(
            result=self.ending,
            model=self.best,
            resumable=self.resumable,
            reason=self.reason,
            sample=self.sample,
            training=self.result,
            trains=True,
            findings=self.findings,
        )


def run(inputs: TrainInputs) -> int:
    """Run the mode; returns the exit code."""
    return run_in_processes(inputs, _run)


def _run(inputs: TrainInputs) -> int:
    started = time.monotonic()
    checks = training_checks(inputs)
    show_checks(checks)
    trained = train_model(inputs, starting_point(inputs), started)
    set_outputs(report_training(inputs, trained))
    if not trained.interrupted:
        write_summary(checks_summary(checks))
    return INTERRUPTED if trained.interrupted else 0


def training_checks(inputs: TrainInputs) -> list[PreflightCheck]:
    """The files of the corpus, the machine, and the time. Raises InputError if a pattern of `data` matches no file."""
    minutes, steps = inputs.size("max_minutes"), inputs.size("max_iters")
    limits = [f"{minutes:g} minutes (max_minutes)"] if minutes else []
    limits += [f"{steps:,} steps (max_iters)"] if steps else []
    return [
        files_check(inputs),
        *questions_check(inputs),
        machine_check(inputs),
        PreflightCheck("time", f"training ends after {' or '.join(limits)}"),
    ]


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
    require_growing_connections(inputs, start.config if start else None)
    with part("Corpus"):
        data = Data(corpus_tokens(inputs, start), inputs.data)
        asked = load_questions(inputs, data.tokens) if inputs.question_sources else None
    config = start.config if start else new_config(inputs, data.tokens)
    if inputs.mode in PUBLISHES:  # the shared file of several modes may have formats
        with naming_demo(inputs):
            require_exportable(selected(inputs.exported_formats), config, inputs.output_dir, data.tokens.tokenizer)
    settings = inputs.training_settings(_default_optimizer(inputs, start), config, fine_tunes=is_fine_tuned(start))
    device = choose_device(settings).type
    with part("Training"), stop_on_signals() as stop, join_process_group(device) as process_group, ProgressPrinter() as printer:
        if start and (reason := converged(start.metadata, read_counters(start), data.tokens.digest, settings)):
            if not inputs.force:
                send_no_run(process_group)
                return _converged(inputs, start, data.tokens, asked, reason)
            note(f"force: true: training, although {reason}")

        def begin(process_group: ProcessGroup) -> Run:
            if start:
                return resume_run(start, data, settings, note, process_group)
            return new_run(config, data, settings, process_group)

        training = begin(process_group)
        set_aside_other_runs(inputs.output_dir, start)
        _log_start(training, start)
        result, diverged = None, ""
        try:
            result = train(training, inputs.output_dir, stop, Callbacks(printer, warn, note), started)
        except DivergedError as error:
            diverged = error.message.rstrip(".")
    if result and result.stopped_by == "signal":
        _log_end(result, result.latest, None)
        return Trained(
            "advanced",
            result,
            best(inputs.output_dir) or result.latest,
            resumable(inputs.output_dir)[0],
            findings=data.tokens.findings,
        )
    finished = FinishedRun(
        run=training,
        output_dir=inputs.output_dir,
        start=start,
        val_loss_before=result.start_val_loss if result else training.val_loss if start else None,
        end=(end := end_of(training, start, result, next(iter(resumable(inputs.output_dir)), None), diverged)),
        begin=lambda: begin(SINGLE_PROCESS),
    )
    kept = finished.next_start()
    chosen = best(inputs.output_dir) or kept
    chosen = _introspected(inputs, chosen, data.tokens)
    chosen, sample = _sampled(chosen, data.tokens)
    chosen = _asked(inputs, chosen, data.tokens, asked)
    _log_end(result, chosen, sample)
    ending: Ending = "advanced" if end.sound else "rolled_back"
    return Trained(ending, result, chosen, kept, sample, end.reason, finished.roll_back, data.tokens.findings, asked)


def _converged(inputs: TrainInputs, start: ModelFolder, tokens: Tokens, asked: QuestionSet | None, reason: str) -> Trained:
    warn(
        f"converged: {reason}. No steps were trained. More text, a smaller model, dropout or init_from would help; force: true "
        "trains anyway."
    )
    chosen = _introspected(inputs, best(inputs.output_dir) or start, tokens)
    chosen, sample = _sampled(chosen, tokens)
    chosen = _asked(inputs, chosen, tokens, asked)
    return Trained("converged", None, chosen, start, sample, reason, findings=tokens.findings, questions=asked)


def _introspected(inputs: TrainInputs, model: ModelFolder, tokens: Tokens) -> ModelFolder:
    """The model with what was measured inside it, if `introspection` asks for that; not before the first step."""
    wanted = inputs.introspection == "true" or (inputs.introspection == "auto" and model.architecture is NANECHO)
    if not wanted or not model.step:
        return model
    try:
        return evaluation.with_introspection(model, tokens.val)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        warn("introspection was skipped: out of memory. The model is trained and saved. introspection: false avoids this.")
        return model


def _sampled(model: ModelFolder, tokens: Tokens) -> tuple[ModelFolder, Sample | None]:
    """A sample of the model, which its metadata records; none before the first step."""
    return with_sample(model, lambda: [tokens.val]) if model.step else (model, None)


def _asked(inputs: TrainInputs, model: ModelFolder, tokens: Tokens, asked: QuestionSet | None) -> ModelFolder:
    """The model with its scores on the questions of `evaluate`; as it is before the first step."""
    return with_fidelity(inputs, with_questions(model, asked), lambda: tokens.val) if model.step else model


def report_training(inputs: TrainInputs, trained: Trained, will_publish: bool = False) -> dict[str, str]:
    """Write the job summary and report.html; returns the outputs of training. `will_publish`: the job then publishes."""
    result = trained.result
    page = write_page(inputs.output_dir, inputs.output_dir / LOG_FILE, trained.best, trained.sample, None)
    write_summary(run_summary(replace(trained.outcome, report=page, will_publish=will_publish)).markdown())
    outputs = model_outputs(trained.best) | {
        "result": trained.ending,
        "checkpoint": str(trained.resumable.path if trained.ending == "rolled_back" or not result else result.latest.path),
        "report": str(page),
    }
    if result:
        outputs |= {"tokens_per_second": f"{result.tokens_per_second:.0f}", "stopped_by": result.stopped_by}
    return outputs


def _default_optimizer(inputs: TrainInputs, start: ModelFolder | None) -> OptimizerName:
    """The optimizer of the checkpoint, because another could not use its state; for a new model, that of its architecture."""
    if start is None:
        return ARCHITECTURES[inputs.architecture or DEFAULT.name].default_optimizer
    return optimizer_of(start.metadata)


def _with_dropout(inputs: TrainInputs, start: ModelFolder) -> ModelFolder:
    if inputs.dropout is None:
        return start
    if inputs.dropout != start.config.dropout:
        note(f"dropout changes from {start.config.dropout} to {inputs.dropout} at step {start.step}.")
    return replace(start, config=start.config.with_dropout(inputs.dropout))


def _log_start(training: Run, start: ModelFolder | None) -> None:
    config, precision = training.model.config, training.precision
    dtype = precision.dtype_name
    fresh = f"step 0 of {start.path}" if start else "new model"
    begins = f"resuming at step {training.step}" if training.step else fresh
    if training.curriculum:
        note(training.curriculum.summary(training.settings, training.step))
        if original := original_meanings(phase.name for phase in training.curriculum.phases):
            note(original)
    note(
        f"{begins}: {training.model.parameter_count():,} parameters ({config.n_layer} layers, {config.n_head} heads, width "
        f"{config.n_embd}, block {config.block_size}), {dtype} on {precision.device}"
        f"{f', kernels: {training.kernels}' if training.by_native else ''}{_processes(training)}"
    )
    if reason := no_gpu_reason(training.settings):
        note(f"training on the CPU: {reason}")
    eager = training.kernels == "eager" and precision.device.type == "cpu"
    if eager and (reason := why_not_native(training.model, precision.dtype)):
        note(f"native kernels are not used (slower): {reason}")


def _processes(training: Run) -> str:
    size = training.process_group.world_size
    return "" if size == 1 else f", in {size} processes{' with sharding' if training.sharded else ''}"


def _log_end(result: Result | None, chosen: ModelFolder, sample: Sample | None) -> None:
    facts = chosen.metadata
    assert facts
    if result:
        note(
            f"\nstopped by {result.stopped_by} at step {result.latest.step}, at {result.tokens_per_second:,.0f} tokens/s; "
            f"newest checkpoint {result.latest.path}"
        )
    note(f"best model {chosen.path}, step {chosen.step}, validation loss {facts.val_loss_text}")
    if facts.introspection:
        note(f"inside the model: {summary_text(facts.introspection)}")
    if sample:
        note("sample, after a prompt from the held-out text:" if sample.from_corpus else "sample, after a usual prompt:")
        show_sample(sample.text)
