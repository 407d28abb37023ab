"""Charts of the history: an image for the card, and a TensorBoard event file for the Hub's Metrics tab.

The image is a PNG, because Markdown on the Hub renders no Mermaid and not every SVG (lfai/model_openness_tool#159).
"""

import math
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from ... import libraries
from ...checkpoint.metadata import Metadata, bits_per_byte
from ..history import History, HistoryEntry, trend
from ..repo import CHART_FILE, HISTORY_FILE

FEWEST = 2  # publishes to draw a chart of
_SHOWN = 200  # publishes in the image; more are not distinguishable
_INK, _LINE, _GRID = "#1f2328", "#0969da", "#d0d7de"


def history_files(history: History, facts: Metadata | None) -> dict[str, bytes]:
    """The files of the history, published with the model that `facts` describe."""
    files = {HISTORY_FILE: history.content}
    if has_trend(history.publishes):
        files[CHART_FILE] = trend_image(history.publishes)
    if facts:
        files[f"runs/{facts.run_id[:8]}/events.out.tfevents.{_began(history, facts)}.echoself"] = event_file(history, facts)
    return files


def has_trend(publishes: Sequence[HistoryEntry]) -> bool:
    """Whether there are enough publishes for a chart."""
    return len(trend(publishes)[1]) >= FEWEST


def trend_image(publishes: Sequence[HistoryEntry]) -> bytes:
    """A PNG of the validation loss over the publishes, on white. A dotted line marks a change of the corpus."""
    unit, points = trend(publishes)
    shown = [(number, loss, publishes[number - 1].data_digest) for number, loss in points[-_SHOWN:]]
    figure = libraries.matplotlib.figure.Figure(figsize=(7.2, 3.2), dpi=150, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for (_, _, before), (number, _, digest) in pairwise(shown):
        if before != digest:
            axes.axvline(number - 0.5, color=_INK, linestyle=":", linewidth=1, alpha=0.6)
    axes.plot([number for number, _, _ in shown], [loss for _, loss, _ in shown], "o-", color=_LINE, markersize=4)
    number, loss, _ = shown[-1]
    axes.annotate(f"{loss:.4f}", (number, loss), (0, 8), textcoords="offset points", ha="center", color=_INK)
    axes.set_xlabel("publish", color=_INK)
    axes.set_ylabel(f"validation loss ({unit})", color=_INK)
    axes.xaxis.set_major_locator(libraries.matplotlib.ticker.MaxNLocator(integer=True))
    axes.margins(y=0.2)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.tick_params(colors=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    picture = BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def event_file(history: History, facts: Metadata) -> bytes:
    """A TensorBoard event file of the run: all evaluations and the metrics of all publishes, by step.

    The whole file is rewritten at every publish, so a run has one file. The wall time of an evaluation is that of the first
    publish after it, because the time of the evaluation itself is not recorded.
    """
    tensorboard = libraries.tensorboardX
    Event, Summary = tensorboard.proto.event_pb2.Event, tensorboard.proto.summary_pb2.Summary  # noqa: N806
    publishes = [publish for publish in history.publishes if publish.run_id == facts.run_id]

    def known_at(step: int) -> float:
        known = (publish.published_at.timestamp() for publish in publishes if publish.step >= step)
        return next(known, float(_began(history, facts)))

    def event(step: int, wall_time: float, values: dict[str, float | None]) -> bytes:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=x) for tag, x in values.items() if x is not None])
        return bytes(Event(wall_time=wall_time, step=step, summary=summary).SerializeToString())

    events = [bytes(Event(wall_time=_began(history, facts), file_version="brain.Event:2").SerializeToString())]
    events += [
        event(
            one.step,
            known_at(one.step),
            {
                "loss/train": one.train_loss,
                "loss/validation": one.val_loss,
                "loss/bits_per_byte": bits_per_byte(one.val_loss, facts.bytes_per_token),
            },
        )
        for one in facts.evaluations
    ]
    events += [
        event(
            publish.step,
            publish.published_at.timestamp(),
            {
                "published/bits_per_byte": publish.bits_per_byte,
                "published/validation_loss": publish.val_loss,
                "published/perplexity": perplexity(publish.val_loss),
                "published/tokens_per_second": publish.tokens_per_second,
                "published/question_accuracy": publish.question_accuracy,
                "published/question_preference": publish.question_preference,
                "published/question_bits_per_byte": publish.question_bits_per_byte,
            },
        )
        for publish in publishes
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events"
        writer = tensorboard.record_writer.RecordWriter(str(path))
        for one in events:
            writer.write(one)
        writer.close()
        return path.read_bytes()


def perplexity(loss: float | None) -> float | None:
    """exp(loss), for a loss in nats per token; None if the loss is None, NaN or too large."""
    return math.exp(loss) if loss is not None and loss < 700 else None


def _began(history: History, facts: Metadata) -> int:
    """Time of the first publish of the run, as a Unix timestamp. It is part of the file name, so it must not change."""
    times = [publish.published_at for publish in history.publishes if publish.run_id == facts.run_id]
    return int(times[0].timestamp()) if times else 0
