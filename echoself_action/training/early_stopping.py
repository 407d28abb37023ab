"""Early stopping: a run whose validation loss has risen well above its lowest ends, because further steps make it worse."""

from ..checkpoint.metadata import Evaluation, loss_text

_IN_A_ROW = 2  # evaluations: a single one may be noise


class EarlyStopping:
    """Watches the evaluations of a run's stable phase.

    The run should end if the validation loss was above the lowest by more than `margin`, a fraction of it, in two evaluations
    in a row. With a `margin` of 0 it never should.
    """

    def __init__(self, margin: float) -> None:
        self._margin = margin
        self._lowest: Evaluation | None = None
        self._above = 0  # evaluations in a row

    def ends_with(self, now: Evaluation) -> bool:
        """Whether the run should end, after one more evaluation."""
        if self._lowest is None or now.val_loss < self._lowest.val_loss:
            self._lowest = now
        self._above = self._above + 1 if now.val_loss > (1 + self._margin) * self._lowest.val_loss else 0
        return bool(self._margin) and self._above >= _IN_A_ROW

    def reason(self, now: Evaluation, bytes_per_token: float | None) -> str:
        """Why it ends, for the log: the model memorises if the training loss has still fallen."""
        lowest = self._lowest
        assert lowest
        before, after = (loss_text(one.val_loss, bytes_per_token) for one in (lowest, now))
        losses = f"validation loss {before} at step {lowest.step}, {after} at step {now.step}"
        if now.train_loss is not None and lowest.train_loss is not None and now.train_loss < lowest.train_loss:
            return (
                f"Memorising: {losses}, while the training loss fell. The last gain was at step {lowest.step}. The run decays "
                "now and ends early. More text, a smaller model or init_from would help."
            )
        return f"Diverging: {losses}, and the training loss did not fall either. The run decays now and ends early."
