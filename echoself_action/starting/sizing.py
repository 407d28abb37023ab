"""The sizes of a new model: those of the inputs and of the preset; under `preset: auto`, by the corpus and this machine."""

from ..checkpoint.architectures import ARCHITECTURES, DEFAULT
from ..config.mode_inputs import TrainInputs
from ..corpus.tokens import Tokens, require_block
from ..model import ModelConfig
from ..model.config import GPT2Config
from ..report.log import note
from ..training.auto_preset import MINUTES, RUNS, Corpus, choose_sizes
from ..training.machine_speed import flops_per_second
from .weighted_files import read_share

_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "dropout")
_BYTES_PER_TOKEN = 4  # where the text of token ids is unknown


def new_config(inputs: TrainInputs, tokens: Tokens) -> ModelConfig:
    """The configuration of a new model for the corpus `tokens`. Raises InputError if that is too small for its block size."""
    share = read_share(inputs, tokens)
    corpus = Corpus(
        text_bytes=round(share * (tokens.bytes_train or _BYTES_PER_TOKEN * len(tokens.train))),
        train_tokens=round(share * len(tokens.train)),
        val_tokens=len(tokens.val),
        vocab_size=tokens.tokenizer.vocab_size,
    )
    if not is_sized_by_corpus(inputs):
        config = sized_config(inputs, corpus)
    else:
        flops = measured_flops(inputs, corpus.vocab_size)
        config = sized_config(inputs, corpus, flops)
        rate = flops / config_of_sizes(config).flops_per_token()
        minutes = inputs.max_minutes or MINUTES
        weighted = any(phase.weights for phase in inputs.phases or ())
        of_phases = " (an epoch: the text that phases read, once; weights repeat some of it)" if weighted else ""
        note(
            f"auto: {config.n_layer} layers, width {config.n_embd}, {tokens.tokenizer.name}, block {config.block_size}, "
            f"because of {_size(corpus.text_bytes)} of text, {minutes:g} minutes and about {rate:,.0f} tokens/s "
            f"on this machine: {rate * 60 * minutes / corpus.train_tokens:.2g} epochs a run{of_phases}; sized for {RUNS} runs"
        )
    require_block(tokens, config.block_size)
    return config


def is_sized_by_corpus(inputs: TrainInputs) -> bool:
    """Whether the sizes of a new model depend on the corpus and on this machine: `preset: auto`, unless all are given."""
    return None in (inputs.size("max_iters"), *(inputs.size(name) for name in _SIZES))


def sized_config(inputs: TrainInputs, corpus: Corpus, flops: float | None = None) -> ModelConfig:
    """The configuration of a new model for this corpus. `flops`: what `measured_flops` returned, if the inputs need it."""
    architecture = ARCHITECTURES[inputs.architecture or DEFAULT.name]
    shape = {name: inputs.size(name) for name in _SIZES}
    steps = inputs.size("max_iters")
    if flops is not None:
        given = {name: value for name in _SIZES if (value := getattr(inputs, name)) is not None}
        sizes = choose_sizes(corpus, inputs.max_minutes or MINUTES, flops, given, architecture.n_embd_multiple)
        shape, steps = {name: getattr(sizes, name) for name in _SIZES}, steps or sizes.steps
    shape |= {"vocab_size": corpus.vocab_size, "bias": inputs.bias is not False}
    if inputs.activation and architecture is DEFAULT:
        shape["activation"] = inputs.activation
    return architecture.config.new_config(shape, {name: getattr(inputs, name) for name in architecture.own_inputs}, steps)


def measured_flops(inputs: TrainInputs, vocab_size: int) -> float:
    """The FLOP/s of this machine with these inputs, measured for about two seconds."""
    architecture = ARCHITECTURES[inputs.architecture or DEFAULT.name]
    small = GPT2Config(vocab_size, 128, 4, 4, 256)
    optimizer = inputs.optimizer or architecture.default_optimizer
    return flops_per_second(architecture, inputs.training_settings(optimizer, small), inputs.dropout or 0.0)


def config_of_sizes(config: ModelConfig) -> GPT2Config:
    """A GPT-2 of the same sizes, whose FLOPs are known."""
    return GPT2Config(config.vocab_size, config.block_size, config.n_layer, config.n_head, config.n_embd)


def _size(count: int) -> str:
    """`280 KB`, of a number of bytes."""
    power = 0 if count < 1000 else 1 if count < 1_000_000 else 2
    return f"{count / 1000**power:.3g} {('bytes', 'KB', 'MB')[power]}"
