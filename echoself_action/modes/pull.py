"""pull: download a model from the Hub, or import a checkpoint, as a checked model folder to use or to resume training from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..checkpoint.copy_in import copy_checkpoint
from ..checkpoint.metadata import export_text
from ..checkpoint.model_folder import ModelFolder
from ..config.inputs import Inputs
from ..config.mode_inputs import ImportInputs, PullInputs
from ..config.outputs import set_outputs
from ..formats.runtimes.export_files import export, require_folder_exportable, selected
from ..formats.runtimes.export_libraries import require_libraries
from ..formats.runtimes.runtime_formats import EXPORTS, RuntimeFormat
from ..hub.client import open_hub
from ..hub.fetch import fetch
from ..hub.repo import look_up
from ..hub.signature import signed_by
from ..report.github_actions import model_outputs, write_summary
from ..report.job_summary.layout import JobSummary
from ..report.job_summary.pull_summary import NamedExport, import_summary, pull_summary
from ..report.log import note, part
from ..starting.resolve_checkpoint import resolve_checkpoint


@dataclass(frozen=True)
class Pulled:
    """`model` is the one to use, `newest` the one that training resumes from; `origin` are the outputs that name its source.

    `summary` makes the job summary, given the exports.
    """

    model: ModelFolder
    newest: ModelFolder
    summary: Callable[[Sequence[NamedExport]], JobSummary]
    origin: dict[str, str] = field(default_factory=dict)


def run(inputs: PullInputs | ImportInputs) -> int:
    """Run the mode; returns the exit code."""
    require_libraries(inputs.formats, note)
    pulled = _download(inputs) if isinstance(inputs, PullInputs) else _import(inputs)
    exports = _export(inputs, pulled)
    write_summary(pulled.summary(exports).markdown())
    outputs = model_outputs(pulled.model) | {"checkpoint": str(pulled.newest.path)} | pulled.origin
    set_outputs(outputs)
    return 0


def _download(inputs: PullInputs) -> Pulled:
    signer = signed_by(inputs.signer) if inputs.signer else None
    with open_hub(inputs.hub, inputs.token, note) as hub, part("Pulling"):
        remote = look_up(hub, inputs.repo_id, inputs.revision)
        fetched = fetch(hub, remote, inputs.output_dir, note, inputs.verify, signer, inputs.tokenizer)
        url = hub.url(inputs.repo_id)
    note(f"pulled {url} at {fetched.commit}: step {fetched.model.step}, {fetched.model.path}")
    if fetched.newest != fetched.model:
        note(f"training resumes from step {fetched.newest.step}: {fetched.newest.path}")
    summary = partial(pull_summary, url, inputs.revision, fetched.commit, fetched.model, fetched.newest)
    origin = {"repo_url": url, "commit_sha": fetched.commit, "revision": inputs.revision}
    return Pulled(fetched.model, fetched.newest, summary, origin)


def _import(inputs: ImportInputs) -> Pulled:
    named = resolve_checkpoint(inputs)
    model = copy_checkpoint(named, inputs.output_dir)
    note(f"imported step {model.step}: {model.path}")
    return Pulled(model, model, partial(import_summary, named, model))


def _export(inputs: Inputs, pulled: Pulled) -> list[NamedExport]:
    """Write `formats`: the checkpoint to resume from for another trainer, and the model for programs that run it."""
    require_folder_exportable(selected(inputs.formats), pulled.model, inputs.output_dir)
    exports = []
    for one in (one for name, one in EXPORTS.items() if name in inputs.formats):
        if isinstance(one, RuntimeFormat):
            model = pulled.model
            made = export(one, model, inputs.output_dir, RuntimeFormat.check)
            exported, facts, verb = made.exported, made.facts, "run it"
        else:
            model, facts, verb = pulled.newest, (), "resume"
            exported = one.export(model, inputs.output_dir)
        note(f"exported for {one.display_name}, step {model.step}: {exported.path}; {verb} with {exported.command}")
        for line in (*map(export_text, facts), *exported.notes):
            note(f"  {line}")
        exports.append(NamedExport(one.display_name, exported, facts))
    return exports
