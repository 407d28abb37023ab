"""What a run would do: where it would start, how many steps it would train in its time, and what it would publish."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..checkpoint.architectures import architecture_of
from ..checkpoint.metadata import Metadata
from ..checkpoint.model_folder import ModelFolder, element_count, read_model_folder
from ..checkpoint.select import resumable, stable_checkpoint_of
from ..config.inputs import AUTO, Inputs
from ..config.mode_inputs import TrainInputs
from ..corpus.token_cache import corpus_digest
from ..formats.import_folder import is_own
from ..hub.endpoint import Hub
from ..hub.fetch import published_config, published_facts, published_state
from ..hub.repo import Remote
from ..model import ModelConfig
from ..model.cross_entropy import LOGITS_AT_ONCE
from ..report.checks import PreflightCheck, warning
from ..resources import available_memory, free_disk, size_text
from ..starting.pretrained import pretrained_config, require_same_shape
from ..starting.resolve_checkpoint import require_checkpoint
from ..starting.resume import is_ahead, optimizer_of, require_new_model_allowed
from ..starting.sizing import config_of_sizes, is_sized_by_corpus, measured_flops, sized_config
from ..starting.weighted_files import require_growing_connections
from ..training.auto_preset import Corpus
from ..training.curriculum import curriculum_of
from ..training.run_end import converged
from ..training.settings import TrainingSettings
from ..training.training_state import TrainingState, read_counters
from .corpus_facts import CorpusFacts, rounded
from .export_check import formats_check

_BYTES_PER_PARAMETER, _IN_A_CHECKPOINT = 28, 12  # in memory, with a copy for a checkpoint (training/memory.py); on disk
_SHAPE_HINT = "Remove these inputs, or start a new model with resume: never and confirm_fresh_start: true."


@dataclass(frozen=True)
class Start:
    """Where a run would start. What is not known without importing a file is None: its `config`, its `facts`.

    `state` has the counters of the training state. `resumes`: it continues a run, and is not step 0 of a new one.
    """

    text: str
    config: "ModelConfig | None" = None
    facts: Metadata | None = None
    state: TrainingState | None = None
    resumes: bool = True


@dataclass(frozen=True)
class Published:
    """The published model and the newest checkpoint on the Hub, by their metadata; None if there is none."""

    hub: Hub
    remote: Remote
    model: Metadata | None
    newest: Metadata | None


def look_at(hub: Hub, remote: Remote) -> Published:
    """Read the metadata of what is published. Raises HubError."""
    return Published(hub, remote, *published_facts(hub, remote))


def find_start(inputs: TrainInputs, published: Published | None) -> Start:
    """Where a run would start; see starting/resume.py. Nothing is imported or downloaded but metadata.

    Raises InputError for `resume: must` without a checkpoint, and for sizes and phases that contradict it, CheckpointError,
    HubError.
    """
    start = _new(inputs) if inputs.resume == "never" else _given(inputs) or _newest(inputs, published) or _new(inputs)
    if start.resumes and start.config:
        require_same_shape(inputs, start.config, f"{start.text} is not possible with a different shape", _SHAPE_HINT)
    if start.config or not start.resumes:
        require_growing_connections(inputs, start.config)
    return start


def forecast(inputs: TrainInputs, start: Start, corpus: CorpusFacts, bytes_per_token: float) -> list[PreflightCheck]:
    """What the run would do, in its time, and whether its memory and disk suffice."""
    if converged := _converged(inputs, start, corpus):
        return [warning("plan", f"would train nothing: {converged}", "Add text, or set force: true to train anyway.")]
    tokens = corpus.train_bytes / bytes_per_token, corpus.val_bytes / bytes_per_token
    config, flops = start.config, None
    if config is None and not start.resumes and inputs.init_from is None:
        train, val = (max(1, round(count)) for count in tokens)
        counts = Corpus(corpus.train_bytes, train, val, corpus.vocabulary(inputs.tokenizer))
        flops = measured_flops(inputs, counts.vocab_size)
        config = sized_config(inputs, counts, flops if is_sized_by_corpus(inputs) else None)
    if config is None:
        return [PreflightCheck("plan", f"would {start.text}; its size is known when it is read")]
    architecture = architecture_of(config)
    optimizer = inputs.optimizer or (optimizer_of(start.facts) if start.resumes else architecture.default_optimizer)
    fine_tunes = bool(inputs.init_from if not start.resumes else start.facts and start.facts.init_from)
    settings = inputs.training_settings(optimizer, config, fine_tunes=fine_tunes)
    rate = start.facts.tokens_per_second if start.facts else None
    rate = rate or (flops or measured_flops(inputs, config.vocab_size)) / config_of_sizes(config).flops_per_token()
    steps, minutes = _steps_and_minutes(settings, config, rate)
    model = f"a {config.n_layer}-layer model of {element_count(config):,} parameters"
    time = "less than a minute" if minutes < 1 else f"{minutes:.2g} minutes"
    speed = f"{rounded(rate):,} tokens/s"
    text = f"would {start.text}, and train about {steps:,} steps of {model} in {time}, at about {speed}"
    checks = [PreflightCheck("plan", text), *_phases(settings, start, steps)]
    if min(tokens) <= config.block_size:
        checks.append(warning(
            "plan", f"block_size {config.block_size} may be too long for a split of about {min(tokens):,.0f} tokens",
            "Add text, or lower block_size.",
        ))  # fmt: skip
    return [*checks, *_room(inputs, settings, config), *formats_check(inputs, config)]


def _phases(settings: TrainingSettings, start: Start, steps: int) -> Iterator[PreflightCheck]:
    """The phases of the curriculum that the run would be in."""
    facts, step = start.facts, start.facts.step if start.resumes and start.facts else 0
    if curriculum := curriculum_of(settings, step, facts.curriculum if facts else None):
        yield PreflightCheck("phases", curriculum.facts.text(step, step + steps))


def publish_check(inputs: Inputs, published: Published | None) -> PreflightCheck:
    """What would become of the model."""
    check = _publish_check(inputs, published)
    if inputs.evaluate_gate == "none" or inputs.dry_run:
        return check
    return replace(check, text=f"{check.text}, and its answers to questions pass evaluate_gate: {inputs.evaluate_gate}")


def _publish_check(inputs: Inputs, published: Published | None) -> PreflightCheck:
    if inputs.dry_run:
        return PreflightCheck("publish", "would list what it would publish, and upload nothing (dry_run)")
    verb = "open a pull request with it" if inputs.create_pr else "publish it"
    model = published.model if published else None
    has_model = published is not None and published.remote.model is not None and published.remote.model.has_model
    if inputs.gate == "none":
        return PreflightCheck(
            "publish", f"would {verb}{' in any case' if inputs.evaluate_gate == 'none' else ' whatever its loss'} (gate: none)"
        )
    if inputs.gate.startswith("max_val_loss"):
        return PreflightCheck("publish", f"would {verb} if its validation loss is low enough (gate: {inputs.gate})")
    if not has_model:
        return PreflightCheck("publish", f"would {verb}: it is the first (gate: {inputs.gate})")
    better = "it is significantly better" if inputs.gate == "improved" else "it is not worse"
    than = f"step {model.step:,}, {model.val_loss_text}" if model else "the published model"
    return PreflightCheck("publish", f"would {verb} if {better} than {than} on the same held-out text (gate: {inputs.gate})")


def _given(inputs: TrainInputs) -> Start | None:
    """The start that the input `checkpoint` gives; None if it is not set."""
    if not inputs.checkpoint:
        return None
    if inputs.checkpoint == AUTO:
        local = _local(inputs)
        return _at(local, f"resume at step {local.step:,} of {local.path}") if local else Start("search for a checkpoint")
    path = require_checkpoint(inputs)
    if path is None or not (path.is_dir() and is_own(path)):
        return Start(f"import {inputs.checkpoint} and resume from it")
    folder = stable_checkpoint_of(read_model_folder(path))
    return _at(folder, f"resume at step {folder.step:,} of {folder.path}")


def _newest(inputs: TrainInputs, published: Published | None) -> Start | None:
    """The newest of output_dir and the Hub, in the order of the mode."""
    local = _local(inputs)
    if local and (inputs.mode == "train" or published is None or not published.remote.holds_a_model):
        return _at(local, f"resume at step {local.step:,} of {local.path}")
    if published is None or not published.remote.holds_a_model:
        return None
    hub, remote, facts = published.hub, published.remote, published.newest
    if local and is_ahead(local.metadata, facts):
        return _at(local, f"resume at step {local.step:,} of {local.path}, which is ahead of {remote.repo_id}")
    if facts is None:
        return Start(f"import the model of {remote.repo_id} and resume from it")
    listing = remote.model if remote.model and remote.model.has_model else remote.state
    assert listing
    text = f"resume at step {facts.step:,} of {remote.repo_id}"
    return Start(text, published_config(hub, remote.repo_id, listing), facts, published_state(hub, remote))


def _new(inputs: TrainInputs) -> Start:
    require_new_model_allowed(inputs)
    if inputs.init_from:
        return Start(f"start from {inputs.init_from}", pretrained_config(inputs, inputs.init_from), resumes=False)
    return Start("start a new model", resumes=False)


def _local(inputs: TrainInputs) -> ModelFolder | None:
    return next(iter(resumable(inputs.output_dir, inputs.size("max_iters"))), None)


def _at(folder: ModelFolder, text: str) -> Start:
    return Start(text, folder.config, folder.metadata, read_counters(folder))


def _converged(inputs: TrainInputs, start: Start, corpus: CorpusFacts) -> str:
    """Why the run would train nothing; "" if it would."""
    if inputs.force or start.facts is None or corpus.documents is None:
        return ""
    digest = corpus_digest(corpus.files, start.facts.tokenizer.digest, inputs.val_fraction, inputs.text_column)
    return converged(start.facts, start.state, digest, inputs)


def _steps_and_minutes(settings: TrainingSettings, config: ModelConfig, tokens_per_second: float) -> tuple[int, float]:
    """How many steps the run would take, and how many minutes."""
    steps_per_minute = 60 * tokens_per_second / (settings.sequences_per_step * config.block_size)
    limits = [settings.max_minutes * steps_per_minute] if settings.max_minutes else []
    steps = min([*limits, *([settings.max_iters] if settings.max_iters else [])])
    shown = int(steps) if steps == settings.max_iters else rounded(steps)
    return max(1, shown), steps / steps_per_minute


def _room(inputs: TrainInputs, settings: TrainingSettings, config: ModelConfig) -> list[PreflightCheck]:
    """Warnings if the memory or the disk may not suffice."""
    parameters = element_count(config)
    logits = settings.batch_size * config.block_size * config.vocab_size
    if architecture_of(config).accelerated:
        logits = min(logits, LOGITS_AT_ONCE)
    memory, disk = _BYTES_PER_PARAMETER * parameters + 4 * logits, (inputs.keep_checkpoints + 2) * _IN_A_CHECKPOINT * parameters
    found = []
    if memory > (free := available_memory()) and inputs.device != "cuda":
        found.append(warning(
            "memory", f"the run may need {size_text(memory)}, and {size_text(free)} are available",
            "Lower n_embd, n_layer or batch_size, or use a machine with more memory.",
        ))  # fmt: skip
    if disk > (free := free_disk(inputs.output_dir)):
        found.append(warning(
            "disk", f"the checkpoints may need {size_text(disk)}, and {size_text(free)} are free",
            "Lower keep_checkpoints, or free space.",
        ))  # fmt: skip
    return found
