"""What a loss is multiplied with where products are in float16, which has no numbers as small as many gradients
(Micikevicius et al. 2018, arXiv 1710.03740)."""

from dataclasses import dataclass, replace

_GROWS_AFTER = 2000  # steps


@dataclass(frozen=True)
class LossScale:
    """A power of two, so that gradients lose nothing by it. `steps` is how many it has held for."""

    factor: float = 65536.0
    steps: int = 0

    def after_step(self) -> "LossScale":
        """After a step with gradients that were all finite: larger, where there have been many."""
        return LossScale(2 * self.factor) if self.steps + 1 == _GROWS_AFTER else replace(self, steps=self.steps + 1)

    def after_overflow(self) -> "LossScale | None":
        """After gradients that were not: smaller; None where it was not its size that made them so."""
        return LossScale(self.factor / 2) if self.factor > 1 else None
