"""A published demo: the Space of a local Hub, opened in Chromium, writes what transformers writes with the published model."""

from pathlib import Path

from huggingface_hub import snapshot_download
from localhub import LocalHub

from echoself_action.checkpoint.model_folder import read_model_folder

from ..conftest import Cli
from ..formats.random_models import write_random_model
from ..node_packages import TRANSFORMERS_JS
from .internet import internet
from .visits import greedy, visit

PROMPT = "The lighthouse keeper"


def test_the_space_writes_what_transformers_writes_with_the_published_model(echoself: Cli, tmp_path: Path) -> None:
    made = write_random_model(tmp_path / "made", "bpe:512")
    with LocalHub(tmp_path / "server") as server, internet(TRANSFORMERS_JS.modules(), tmp_path) as net:
        space = echoself(f"deploy --hub {server.url} --repo-id me/model --checkpoint {made.path} --demo")["demo_url"]
        seen = visit("space", net, {"space": space, "prompt": PROMPT})
        model = read_model_folder(Path(snapshot_download("me/model", endpoint=server.url, local_dir=tmp_path / "model")))
    ids, text = greedy(model, PROMPT, 50)
    assert seen["url"] == f"http://spaces.localhost:{server.url.rpartition(':')[2]}/me/model-demo/"
    assert (seen["greedy"]["ids"], seen["greedy"]["written"]) == (ids, text.rstrip("\ufffd"))
    assert seen["logged"] == []  # no error, and nothing that the page's own policy refused
