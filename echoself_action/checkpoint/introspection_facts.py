"""What training_metadata.json records of a model's inside: its attention, its masks, and what each path of it does.

evaluation/introspection.py measures these figures. A model that was not measured has none.
"""

from .facts import Facts

FEWEST_WINDOWS = 8  # for a confidence interval: fewer resampled windows give one that is too narrow


class ThresholdFacts(Facts):
    """The threshold of the adaptive attention in one layer, over all tokens of the text: its mean, standard deviation, smallest
    and largest value. `at_limit` is the share of the tokens at which it is at one of the two limits of the config, where it
    can't follow the text."""

    mean: float
    deviation: float
    low: float
    high: float
    at_limit: float


class AblationFacts(Facts):
    """A path switched off while the model is evaluated, without training it again.

    `path` is a name of `nanecho_paths`; `persona_dimensions.NAME`, one of the dimensions; or `adaptive_threshold`, the
    thresholds held at their mean. `change` is the loss without the path minus that with it, in bits per byte: above zero, the
    path helps. `low` and `high` are the bounds of its 95 % confidence interval (paired bootstrap over windows), None with
    fewer than `FEWEST_WINDOWS` of them.

    `logit_share` is how much of the logits the path makes: ||l - m|| / ||l||, with l the logits of the model and m those
    without the path, over all positions, each centred: less their mean over the vocabulary, which a softmax ignores. 0: the
    path changes nothing; 1: the difference is as large as the logits themselves, and it may be larger.
    """

    path: str
    change: float
    low: float | None = None
    high: float | None = None
    logit_share: float

    @property
    def is_measurable(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class IntrospectionFacts(Facts):
    """Figures of a model, measured on `windows` windows of held-out text with `tokens` predicted tokens. `held_out` is a digest
    of the windows, `bits_per_byte` the loss on them.

    `entropy` is the entropy of the attention weights in bits, by layer and head: the mean over all tokens. `uniform_entropy` is
    what it would be if each token attended equally to all that it can see. 2^entropy is the effective number of tokens.

    `connections` is the share of ones in the masks of a NanEcho, `stated_connections` what the masks state, and
    `recursion_depth` how many of its `max_recursion_depth` layers the recursion uses; None for other models.

    `ablations` are measured on `ablation_windows` of the windows: fewer if the time was over. `seconds` is the time of it all.
    """

    held_out: str
    windows: int
    tokens: int
    bits_per_byte: float
    entropy: tuple[tuple[float, ...], ...]
    uniform_entropy: float
    thresholds: tuple[ThresholdFacts, ...] = ()
    connections: float | None = None
    stated_connections: float | None = None
    recursion_depth: int | None = None
    max_recursion_depth: int | None = None
    ablations: tuple[AblationFacts, ...] = ()
    ablation_windows: int = 0
    seconds: float

    @property
    def mean_entropy(self) -> float:
        """The mean of `entropy` over all heads."""
        heads = [head for layer in self.entropy for head in layer]
        return sum(heads) / len(heads)
