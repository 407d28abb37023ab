"""The summary of a pull: a model from the Hub, or a checkpoint that was imported, and its exports for other programs."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...checkpoint.metadata import ExportFacts, parity_text
from ...checkpoint.model_folder import ModelFolder
from ...corpus.tokenizer import IDS
from ...formats.registry import Exported
from ...markdown import code, prose
from . import run_details as details
from .layout import Folded, JobSummary, known_loss, sentence
from .loss_curve import training_curve


@dataclass(frozen=True)
class NamedExport:
    """A model that was written for another program, and how that computes it: no `facts` of one that trains it."""

    program: str
    exported: Exported
    facts: tuple[ExportFacts, ...] = ()


def pull_summary(
    repo_url: str, revision: str, commit: str, model: ModelFolder, newest: ModelFolder, exports: Sequence[NamedExport] = ()
) -> JobSummary:
    """A model from the Hub, at `commit`. `newest` is the checkpoint that training resumes from."""
    repo_id = "/".join(repo_url.split("/")[-2:])
    evaluated = model.metadata is not None and model.metadata.val_loss is not None
    title = f"Pulled step {model.step:,} of {repo_id}: {known_loss(model) if evaluated else 'not evaluated'}"
    link = f"[{code(commit[:7])}]({repo_url}/commit/{commit})"
    return _summary(
        title, f"Revision {code(revision)} of [{prose(repo_id)}]({repo_url}) is commit {link}.", model, newest, exports
    )


def import_summary(named: ModelFolder, model: ModelFolder, exports: Sequence[NamedExport] = ()) -> JobSummary:
    """The checkpoint `named`, which is now the model folder `model`, without the Hub."""
    facts = model.metadata
    origin = facts.imported_from.file if facts and facts.is_import and facts.imported_from else str(named.path)
    parity = facts.parity if facts else None
    checked = f"Stock transformers computes what its own program does: {parity_text(parity)}." if parity else ""
    return _summary(f"Imported step {model.step:,} of {origin}", checked, model, model, exports)


def _summary(title: str, lead: str, model: ModelFolder, newest: ModelFolder, exports: Sequence[NamedExport]) -> JobSummary:
    facts = model.metadata
    assumed = details.assumptions(facts)
    train = "" if facts and facts.tokenizer.name == IDS else "train it further with `mode: train`, or "
    return JobSummary(
        title=title,
        lead=[part for part in (lead, details.beside_bits_per_byte(facts)) if part],
        warnings=[*([assumed] if assumed else []), *map(_exported, exports)],
        chart=training_curve(facts),
        sample=facts.sample if facts else None,
        next_step=f"load it with transformers from {code(model.path)}; {train}publish it with `mode: deploy`.",
        folded=[
            Folded("Figures", details.figures(model, None, (None, None), None)),
            Folded("Corpus", details.corpus(facts, ())),
            Folded("Where the model is from", "" if assumed else details.origin(facts)),
            Folded("What the numbers mean", details.meaning(facts)),
            Folded("Files of this job", details.places(model, newest, None)),
        ],
    )


def _exported(export: NamedExport) -> str:
    notes = "".join(f"\n- {prose(sentence(note))}" for note in export.exported.notes)
    found = export.exported
    verb = "Run it" if export.facts else "Resume there"
    line = f"**Exported for {prose(export.program)}:** {code(found.path)}. {verb} with {code(found.command)}."
    table = f"\n\n{details.exports(export.facts)}" if export.facts else ""
    return line + (f"\n{notes}" if notes else "") + table
