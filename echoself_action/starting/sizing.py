"""The sizes of a new model: those of the inputs and of the preset; under `preset: auto`, by the corpus and this machine."""

from ..checkpoint.architectures import ARCHITECTURES, DEFAULT
from ..config.mode_inputs import TrainInputs
from ..corpus.tokens import Tokens, require_block
from ..model import ModelConfig
from ..model.config import GPT2Config
from ..report.log import note
from ..training.auto_preset import MINUTES, RUNS, Corpus, Sizes, choose_sizes
from ..training.machine_speed import flops_per_second

_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "dropout")
_BYTES_PER_TOKEN = 4  # where the text of token ids is unknown


def new_config(inputs: TrainInputs, tokens: Tokens) -> ModelConfig:
    """The configuration of a new model for the corpus `tokens`. Raises InputError if that is too small for its block size."""
    architecture = ARCHITECTURES[inputs.architecture or DEFAULT.name]
    shape = {name: inputs.size(name) for name in _SIZES}
    steps = inputs.size("max_iters")
    if None in shape.values() or steps is None:
        sizes = _chosen(inputs, tokens)
        shape, steps = {name: getattr(sizes, name) for name in _SIZES}, steps or sizes.steps
    require_block(tokens, shape["block_size"])
    shape |= {"vocab_size": tokens.tokenizer.vocab_size, "bias": inputs.bias is not False}
    if inputs.activation and architecture is DEFAULT:
        shape["activation"] = inputs.activation
    return architecture.config.new_config(shape, {name: getattr(inputs, name) for name in architecture.own_inputs}, steps)


def _chosen(inputs: TrainInputs, tokens: Tokens) -> Sizes:
    """The sizes that `preset: auto` chooses, with the reason in the log."""
    architecture = ARCHITECTURES[inputs.architecture or DEFAULT.name]
    given = {name: value for name in _SIZES if (value := getattr(inputs, name)) is not None}
    corpus = Corpus(
        text_bytes=tokens.bytes_train or _BYTES_PER_TOKEN * len(tokens.train),
        train_tokens=len(tokens.train),
        val_tokens=len(tokens.val),
        vocab_size=tokens.tokenizer.vocab_size,
    )
    minutes = inputs.max_minutes or MINUTES
    small = GPT2Config(corpus.vocab_size, 128, 4, 4, 256)
    optimizer = inputs.optimizer or architecture.default_optimizer
    flops = flops_per_second(architecture, inputs.training_settings(optimizer, small), inputs.dropout or 0.0)
    sizes = choose_sizes(corpus, minutes, flops, given, architecture.n_embd_multiple)
    config = GPT2Config(corpus.vocab_size, sizes.block_size, sizes.n_layer, sizes.n_head, sizes.n_embd)
    rate = flops / config.flops_per_token()
    epochs = rate * 60 * minutes / corpus.train_tokens
    note(
        f"auto: {sizes.n_layer} layers, width {sizes.n_embd}, {tokens.tokenizer.name}, block {sizes.block_size}, "
        f"because of {_size(corpus.text_bytes)} of text, {minutes:g} minutes and about {rate:,.0f} tokens/s "
        f"on this machine: {epochs:.2g} epochs a run; sized for {RUNS} runs"
    )
    return sizes


def _size(count: int) -> str:
    """`280 KB`, of a number of bytes."""
    power = 0 if count < 1000 else 1 if count < 1_000_000 else 2
    return f"{count / 1000**power:.3g} {('bytes', 'KB', 'MB')[power]}"
