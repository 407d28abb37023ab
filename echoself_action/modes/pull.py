"""pull: fetch a model from the Hub, checked, as a folder to use or to go on training from."""

from dataclasses import asdict

from ..hub.client import open_hub
from ..hub.fetch import fetch
from ..hub.repo import look_up
from ..inputs import Inputs, Outputs
from ..report.github import write_outputs, write_summary
from ..report.log import note, part
from ..report.summary import pulling_summary
from ..training.nanogpt import export_nanogpt
from .outputs import model_outputs


def run(inputs: Inputs) -> int:
    """The mode; returns the exit code."""
    assert inputs.repo_id
    with open_hub(inputs.hub, inputs.token) as hub, part("Pulling"):
        remote = look_up(hub, inputs.repo_id, inputs.revision)
        fetched = fetch(hub, remote, inputs.output_dir)
        url = hub.url(inputs.repo_id)
    note(f"pulled {url} at {fetched.commit}: step {fetched.model.step}, {fetched.model.path}")
    if fetched.newest != fetched.model:
        note(f"its training stands at step {fetched.newest.step}: {fetched.newest.path}")
    if "nanogpt" in inputs.formats:
        exported = inputs.output_dir / "nanogpt" / "ckpt.pt"
        export_nanogpt(fetched.newest, exported)
        note(f"for nanoGPT, step {fetched.newest.step}: {exported}; train.py --init_from=resume --out_dir={exported.parent}")
    write_summary(pulling_summary(url, inputs.revision, fetched.commit, fetched.model))
    where = {"repo_url": url, "commit_sha": fetched.commit, "revision": inputs.revision}
    outputs = model_outputs(fetched.model) | {"checkpoint": str(fetched.newest.path)} | where
    write_outputs(asdict(Outputs(**outputs)))
    return 0
