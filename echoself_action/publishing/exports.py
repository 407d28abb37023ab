"""Publish a model for other programs too (`formats`): before anything is sent, each file is run in the program it is for."""

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ..checkpoint.metadata import ExportFacts, Metadata, export_notes, export_text
from ..checkpoint.model_folder import ModelFolder, record, sha256
from ..config.inputs import Inputs
from ..errors import EchoselfError
from ..formats.registry import Exported
from ..formats.runtimes.export_files import export, require_folder_exportable, selected
from ..formats.runtimes.runtime_formats import ONNX, PUBLISHED_FILES, PUBLISHED_WEIGHTS, RuntimeFormat
from ..hub.fetch import download, read_facts
from ..hub.repo import RemoteFile
from ..report.log import note, warn
from .publication import Publication


@contextmanager
def naming_demo(inputs: Inputs) -> Iterator[None]:
    """An error about ONNX inside the block says that `demo` asks for it, if `formats` does not."""
    try:
        yield
    except EchoselfError as error:
        if inputs.demo and ONNX.name not in inputs.formats and f"{ONNX.name} out of formats" in error.hint:
            error.hint += f" demo adds {ONNX.name} to formats: remove it too."
        raise


def add_exports(publication: Publication) -> Publication:
    """Add the files of `formats` to the publication, and remove those that an earlier publish made and this one does not.

    A file that is published already keeps its facts, so that publishing it again changes nothing. Raises CheckpointError if a
    format can't hold the model, or if its program computes something else.
    """
    inputs, model, remote = publication.inputs, publication.model, publication.remote
    known = read_facts(publication.hub, remote.repo_id, remote.model) if remote.model else None
    ours = _published(publication, known) if known else {}
    there = remote.model.files.keys() if remote.model else frozenset()
    recorded = [facts for one in (model.metadata, known) if one for facts in one.exports]
    files: dict[str, Path] = {}
    measured: list[ExportFacts] = []
    formats = selected(inputs.exported_formats)
    require_folder_exportable(formats, model, inputs.output_dir)
    for one in formats:
        made = export(one, model, inputs.output_dir, partial(_check, recorded=recorded, published=ours, there=there))
        files |= made.exported.files
        measured += made.facts
        for facts in made.facts:
            is_new = ours.get(facts.file) != facts.sha256
            note(f"{'exported to' if is_new else 'already published as'} {one.name}: {export_text(facts)}")
        for line in export_notes(made.facts):
            note(f"  {line}")
    weights = {facts.file for facts in measured}
    files = {name: path for name, path in files.items() if name in weights or not _is_users_own(publication, name, path, ours)}
    outdated = tuple(sorted(ours.keys() - files.keys()))
    if outdated:
        verb = "would be removed" if inputs.dry_run else "will be removed"
        note(f"{', '.join(outdated)}: exported by an earlier publish and not by this one, so {verb} from {remote.repo_id}")
    if not inputs.dry_run:
        extras = {name: sha256(path) for name, path in files.items() if name not in weights}
        model = record(model, overwrite=True, exports=tuple(measured), export_extras=extras)
    return replace(publication, model=model, exports=tuple(measured), export_files=files, outdated_exports=outdated)


def _published(publication: Publication, known: Metadata) -> dict[str, str]:
    """The sha256 of each exported file in the repo that is as it was published. One that was changed since is its author's.

    Metadata that somebody else wrote can't name other files, which would be removed as outdated.
    """
    assert publication.remote.model
    there = {name: file for name, file in publication.remote.model.files.items() if name in PUBLISHED_FILES}
    digests = known.export_extras | {facts.file: facts.sha256 for facts in known.exports}
    return {name: digest for name, digest in digests.items() if name in there and _digest(publication, there[name]) == digest}


def _digest(publication: Publication, file: RemoteFile) -> str:
    """The sha256 of a file in the repo. The Hub lists it for those in LFS; others are small."""
    if file.sha256:
        return file.sha256
    assert publication.remote.model
    with TemporaryDirectory() as folder:
        commit = publication.remote.model.commit
        return sha256(download(publication.hub, publication.remote.repo_id, commit, file, Path(folder)))


def _check(
    one: RuntimeFormat,
    folder: ModelFolder,
    exported: Exported,
    recorded: list[ExportFacts],
    published: Mapping[str, str],
    there: Set[str],
) -> tuple[ExportFacts, ...]:
    """Run the files in their program, unless they are `published` already; `there` are all files in the repo.

    Equal files keep the facts that are recorded for them: the same on another CPU differ in their last digits.
    """
    digests = {name: sha256(path) for name, path in exported.files.items()}
    by_file = {facts.file: facts for facts in recorded if digests.get(facts.file) == facts.sha256 and facts.format == one.name}
    others = digests.keys() - PUBLISHED_WEIGHTS  # which may have been edited
    if (
        by_file.keys() == digests.keys() - others
        and all(published.get(name) == digests[name] for name in by_file)
        and others <= there
    ):
        return tuple(by_file.values())
    first, *rest = one.check(folder, exported)
    first = first.model_copy(update={"notes": (*exported.notes, *first.notes)})  # of the format, for its users
    return tuple(by_file.get(facts.file, facts) for facts in (first, *rest))


def _is_users_own(publication: Publication, name: str, path: Path, published: Mapping[str, str]) -> bool:
    """Whether the repo has a file `name` that is not from an earlier publish, and that this one must not replace."""
    listing = publication.remote.model
    if listing is None or name not in listing.files or name in published:
        return False
    if _digest(publication, listing.files[name]) == sha256(path):
        return False
    warn(f"{name} in {publication.remote.repo_id} was not written by echoself-action, and is kept as it is")
    return True
