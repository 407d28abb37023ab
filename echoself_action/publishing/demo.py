"""The demo of a model (`demo`): a page that runs it in the browser, as a folder in output_dir and as a static Space.

The Space is updated after the model's commit, so that the page never has a model that is not published. If that fails, the
model stays published and the job fails at its end. The next run repairs the Space, also one that publishes no model.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..checkpoint.model_folder import read_model_folder
from ..config.mode_inputs import DeployInputs
from ..demo.folder import MODEL, write_demo
from ..errors import EchoselfError, HubError, MovedOnError
from ..formats.registry import Exported
from ..formats.runtimes.runtime_formats import ONNX_FP32, ONNX_INT8
from ..hub.access import TokenAccess, require_repo_access
from ..hub.cards.space_card import space_card
from ..hub.endpoint import Hub
from ..hub.fetch import download
from ..hub.provenance import provenance_of
from ..hub.publish import CommitResult, changes, ensure_repo, publish_model
from ..hub.repo import CARD_FILE, MAIN, MODEL_FILES, PROVENANCE_FILE, Content, Listing, Remote, list_repo
from ..hub.space import Space, is_restricted, look_up_space, require_restricted
from ..hub.upload_checks import refuse_secrets
from ..report.checks import PreflightCheck
from ..report.log import note, part
from .card import card_choices
from .publication import DemoPage, Publication, why_no_space
from .upload import log_upload

FOLDER = "demo"  # in output_dir
_AGAIN = "The model is published. The next run publishes its page; nothing else is sent again."


def check_demo(inputs: DeployInputs, hub: Hub, remote: Remote, access: TokenAccess | None) -> list[PreflightCheck]:
    """Check before any work that the Space could be published; no check without `demo`.

    Raises InputError for a Space that is not this program's, or that would show a private model to everybody; HubError without
    access to it.
    """
    if inputs.demo_repo is None:
        return []
    if why_no_space(inputs):
        return demo_plan(inputs, "")
    space = look_up_space(hub, inputs.demo_repo)
    if access:
        require_repo_access(space.hub, space.remote, access, "demo_repo_id")
    if space.remote.model is None:
        return demo_plan(inputs, "created")
    if remote.model and is_restricted(hub, remote.repo_id):
        require_restricted(space, remote.repo_id)
    return demo_plan(inputs, "updated")


def demo_plan(inputs: DeployInputs, change: str) -> list[PreflightCheck]:
    """What becomes of the Space, which is created or updated."""
    if inputs.demo_repo is None:
        return []
    folder = inputs.output_dir / FOLDER
    if why := why_no_space(inputs):
        return [PreflightCheck("demo", f"no Space, because {why}; the page will be in {folder}")]
    also = f"the page will be in {folder} too, and its ONNX files are published with the model"
    return [PreflightCheck("demo", f"the static Space {inputs.demo_repo} will be {change}; {also}")]


def add_demo(publication: Publication) -> Publication:
    """Write the page to output_dir, and plan what to change in the Space.

    Raises CheckpointError if the page can't be written or a file of it must not be published, InputError as `check_demo`,
    HubError.
    """
    inputs, hub = publication.inputs, publication.hub
    if inputs.demo_repo is None:
        return publication
    folder = inputs.output_dir / FOLDER
    files = _write(publication, publication.export_files, folder)
    note(f"demo: {folder / 'index.html'}; `python -m http.server -d {folder}` shows it at http://127.0.0.1:8000")
    if why := why_no_space(inputs):
        note(f"demo: no Space, because {why}")
        return publication
    return replace(publication, demo=_plan(publication, look_up_space(hub, inputs.demo_repo), files))


def publish_demo(publication: Publication) -> Publication:
    """Commit the page to the Space, which is created if it does not exist. A failure is kept in the publication."""
    demo = publication.demo
    if demo is None or publication.published is None:
        return publication
    with part("Demo"):
        try:
            return replace(publication, demo_url=_publish(publication, demo, publication.published.commit))
        except EchoselfError as error:
            return replace(publication, demo_error=_failure(publication, error))


def repair_demo(publication: Publication) -> Publication:
    """Publish the page of the published model, if an earlier run could not: for a run that publishes no model.

    A failure is kept in the publication.
    """
    listing = publication.remote.model
    if not publication.space_id or listing is None or not listing.has_model:
        return publication
    try:
        return replace(publication, demo_url=_repair(publication, listing))
    except EchoselfError as error:
        return replace(publication, demo_error=_failure(publication, error))


def _failure(publication: Publication, error: EchoselfError) -> HubError:
    url = replace(publication.hub, kind="space").url(publication.space_id)
    return HubError(f"The demo was not published to {url}: {error.message}", f"{error.hint} {_AGAIN}")


def _repair(publication: Publication, listing: Listing) -> str:
    """The URL of the Space, "" if it does not show the published model. Raises EchoselfError."""
    hub, repo_id = publication.hub, publication.remote.repo_id
    onnx = [name for name in (ONNX_FP32, ONNX_INT8) if name in listing.files]
    if not onnx:
        note("demo: the published model has no ONNX files. Its page comes with the next model that is published.")
        return ""
    space = look_up_space(hub, publication.space_id)
    there = space.remote.model.files if space.remote.model else {}
    copies = {name: there.get(f"{MODEL}/{name}") for name in onnx}
    if all(copy and copy.sha256 == listing.files[name].sha256 for name, copy in copies.items()):
        return space.url
    if list_repo(hub, repo_id, MAIN).commit != listing.commit:
        return ""  # another job has published since, and publishes its own page
    with part("Demo"), TemporaryDirectory() as scratch:
        note(f"{space.url} does not have the published model: publishing its page")
        here = Path(scratch) / "model"
        for name in (*onnx, *(name for name in MODEL_FILES if name in listing.files)):
            download(hub, repo_id, listing.commit, listing.files[name], here)
        published = replace(publication, model=read_model_folder(here))
        page = _write(published, {name: here / name for name in onnx}, Path(scratch) / FOLDER)
        return _publish(published, _plan(published, space, page), listing.commit)


def _write(publication: Publication, onnx: Mapping[str, Path], folder: Path) -> dict[str, Content]:
    """Write the page to `folder`; returns its files by their paths. Raises CheckpointError."""
    # a local Hub has another port in the next run
    url = "" if publication.hub.folder else publication.repo_url
    write_demo(publication.model, Exported(folder, "", files=onnx), folder, publication.remote.repo_id, url)
    files: dict[str, Content] = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    refuse_secrets(files)
    return files


def _publish(publication: Publication, demo: DemoPage, commit: str) -> str:
    """The URL of the Space, which then has the page of the model at `commit`, or of a newer one. Raises EchoselfError."""
    try:
        done = _commit(publication, demo)
    except MovedOnError:
        hub, remote = publication.hub, publication.remote
        if list_repo(hub, remote.repo_id, MAIN).commit != commit:
            note(f"{demo.space.url} and {remote.repo_id} have new commits, of another job: its page is kept")
            return demo.space.url
        again = _plan(publication, look_up_space(hub, demo.space.remote.repo_id), demo.page)
        done = _commit(publication, again)
    if done.deployed:
        log_upload(done, demo.space.url)
    else:
        note(f"{demo.space.url} already holds this page at commit {done.commit}: nothing was sent")
    return demo.space.url


def _commit(publication: Publication, demo: DemoPage) -> CommitResult:
    """Raises MovedOnError if the Space has a newer commit than when it was listed."""
    space, hub, model_id = demo.space, publication.hub, publication.remote.repo_id
    restricted = is_restricted(hub, model_id)
    if space.remote.model is None:
        ensure_repo(space.hub, space.remote, private=restricted)
        space = look_up_space(hub, space.remote.repo_id)
        if space.remote.model and PROVENANCE_FILE in space.remote.model.files:
            raise MovedOnError(f"Another job has published to {space.url}. Nothing was published.", "Run again.")
        demo = _plan(publication, space, demo.page)
    if restricted:
        require_restricted(space, model_id)
    title = f"Demo of {model_id} at step {publication.model.step}"
    return publish_model(space.hub, space.remote, demo.files, title, demo.removed)


def _plan(publication: Publication, space: Space, page: Mapping[str, Content]) -> DemoPage:
    """What is to be changed in the Space: only files that this program wrote are removed."""
    inputs = publication.inputs
    card = space_card(publication.remote.repo_id, card_choices(inputs), space.card)
    files: dict[str, Content] = {**page, CARD_FILE: card.encode()}
    removed = tuple(sorted(space.ours - files.keys() - {PROVENANCE_FILE}))
    if removed or changes(files, space.remote.model):
        files[PROVENANCE_FILE] = provenance_of(files, inputs.model_dump(mode="json", exclude={"hf_token"}))
    return DemoPage(space, page, files, removed)
