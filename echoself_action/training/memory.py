"""When a step needs more memory than there is: smaller batches once, and else the numbers and what to change."""

from dataclasses import replace

from ..errors import TrainingError, in_short
from ..model.cross_entropy import LOGITS_AT_ONCE
from ..model.gpt2 import GPT2
from .run import Run
from .settings import TrainingSettings


def smaller_batches(run: Run, error: BaseException) -> TrainingSettings:
    """Settings whose step sees the same sequences in smaller batches. Raises TrainingError where they are of one already."""
    settings, processes = run.settings, run.team.size
    sizes = range(settings.batch_size // 2, 0, -1)
    smaller = next((size for size in sizes if settings.batch_size % size == 0 and size % processes == 0), 0)
    if not smaller:
        raise out_of_memory(run, error) from error
    times = settings.batch_size // smaller
    return replace(settings, batch_size=smaller, gradient_accumulation=settings.gradient_accumulation * times)


def out_of_memory(run: Run, error: BaseException) -> TrainingError:
    """What was asked for, in numbers."""
    config, settings = run.model.config, run.settings
    parameters = run.model.parameter_count()
    logits = settings.batch_size * config.block_size * config.vocab_size
    if isinstance(run.model, GPT2):
        logits = min(logits, LOGITS_AT_ONCE)
    return TrainingError(
        f"Step {run.step + 1} needs more memory than there is ({in_short(error)}): {parameters:,} parameters with gradients "
        f"and moments take up to {_gigabytes(16 * parameters)}, what a checkpoint copies of them "
        f"{_gigabytes(12 * parameters)}, and the logits of {settings.batch_size} sequences of {config.block_size} tokens over "
        f"{config.vocab_size:,} words "
        f"{_gigabytes(4 * logits)}. Training was ended; its checkpoints stay.",
        "Lower batch_size (and raise gradient_accumulation, for the same result), block_size, n_embd or n_layer, or use a "
        "smaller vocabulary, such as tokenizer: bpe:4096.",
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
