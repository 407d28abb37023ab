"""Where the weights of a model are from, for cards, summaries and pages: trained here, or by another program before."""

from ...checkpoint.metadata import Metadata
from ...markdown import number


def origin_rows(facts: Metadata | None) -> list[tuple[str, str]]:
    """(label, plain text) of what is known about the source of an imported or pretrained model, and assumed about it.

    Losses in its file were measured by another program on another text: they are labelled so, and compared with nothing.
    """
    if facts is None:
        return []
    rows = []
    if start := facts.init_from:
        rows.append(("Started from", str(start)))
        rows += [("Note", remark) for remark in start.remarks]
    if origin := facts.imported_from:
        rows.append(("Imported from", str(origin)))
        if facts.steps_before:
            rows.append(("Steps before the import", f"{facts.steps_before:,}"))
        if origin.tokens_seen:
            rows.append(("Tokens seen before the import", f"{origin.tokens_seen:,}"))
        losses = {"Training loss in that file": origin.train_loss, "Validation loss in that file": origin.val_loss}
        recorded = ((label, loss) for label, loss in losses.items() if loss is not None)
        rows += [(label, f"{number(loss)}, as its program measured it on its own text") for label, loss in recorded]
        rows += [("Optimizer", note) for note in origin.optimizer_notes]
        rows += [("Note", remark) for remark in origin.remarks]
    return [*rows, *(("Assumed", assumption) for assumption in facts.assumptions)]


def steps_text(facts: Metadata) -> str:
    """All steps; only those since the import, if it is not known how many there were before."""
    if facts.imported_from and not facts.steps_before:
        return f"{facts.step:,} since the import" if facts.is_trained_here else ""
    return f"{facts.step:,}" if facts.step or not facts.init_from else ""


def tokens_seen_text(facts: Metadata) -> str:
    """The tokens of all steps; only those since the import, if the file does not tell how many there were before."""
    if facts.imported_from and not facts.imported_from.tokens_seen:
        return f"{facts.tokens_seen:,} since the import" if facts.is_trained_here else ""
    return f"{facts.tokens_seen:,}" if facts.tokens_seen or facts.is_trained_here else ""


def training_settings(facts: Metadata) -> list[tuple[str, str]]:
    """(label, text) of the settings that are recorded: of this program's training, or of an import those in its file."""
    settings = facts.settings
    batch = settings.get("batch_size")
    accumulation = settings.get("gradient_accumulation", settings.get("gradient_accumulation_steps"))
    steps = "" if accumulation is None else f" x {accumulation} gradient accumulation steps"
    precision, rate = settings.get("computed_in"), settings.get("learning_rate")
    rows = [
        ("Batch size", "" if batch is None else f"{batch} sequences{steps}"),
        ("Peak learning rate", "" if rate is None else str(rate)),
        ("Curriculum", facts.curriculum.overview if facts.curriculum else ""),
        ("Precision", "" if precision is None else f"{precision}{f', on {facts.device}' if facts.device else ''}"),
    ]
    return [row for row in rows if row[1]]
