"""Which of two or more models is better, through the front door: verdict, table, page, and the tag on the winner."""

import shutil
from pathlib import Path

import pytest

from echoself_action.hub.client import open_hub

from ..conftest import SMALL, Cli
from ..formats.foreign_files import nanogpt_checkpoint, save

HUB = "--hub hub"
BETTER, WORSE = f"train --tokenizer bytes {SMALL} --max-iters 60", f"train --tokenizer bytes {SMALL} --max-iters 10"


@pytest.fixture
def two(begun: Cli) -> tuple[dict[str, str], dict[str, str]]:
    """A worse and a better model, each in a folder with that name."""
    return begun(f"{WORSE} --output-dir worse"), begun(f"{BETTER} --output-dir better")


def tags(repo: str = "me/model") -> dict[str, str]:
    with open_hub("hub", None) as hub:
        return {ref.name: ref.target_commit for ref in hub.api.list_repo_refs(repo).tags}


def test_the_better_of_two_folders_wins_in_either_order_with_its_figures(
    echoself: Cli, two: tuple[dict[str, str], dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worse, better = two
    for candidates in ("worse,better", "better,worse"):
        outputs = echoself(f"compare --candidates {candidates}")
        assert outputs["winner"] == "better"
        assert (outputs["model_dir"], outputs["step"]) == (better["model_dir"], better["step"])
        assert float(outputs["val_loss"]) == pytest.approx(float(better["val_loss"]), abs=1e-4)
        assert outputs["tag"] == outputs["repo_url"] == ""
    page = Path(outputs["report"]).read_text()
    assert outputs["report"] == "echoself-model/compare.html"
    summary = (tmp_path / "summary.md").read_text()
    message = capsys.readouterr().out
    for text in (page, summary):
        assert "better is significantly better than every other candidate" in text
        assert f"{float(better['val_loss']):.4f}" in text
        assert f"{float(worse['val_loss']):.4f}" in text
        assert "bits per byte" in text
        assert "perplexity" in text
    assert "worse is significantly worse than better: " in message
    assert "held-out text: " in message
    assert "<script" not in page
    assert not [word for word in ('src="', "@import", "url(", "://") if word in page]


def test_the_same_model_twice_has_no_winner(echoself: Cli, two: object, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("better", "copy")
    outputs = echoself("compare --candidates better,copy --evaluate echo-fidelity")
    assert "echo-fidelity is not measured by compare" in capsys.readouterr().out
    assert (outputs["winner"], outputs["val_loss"]) == ("", "")
    assert Path(outputs["report"]).is_file()


def test_three_candidates_have_one_winner(echoself: Cli, two: object) -> None:
    shutil.copytree("worse", "copy")
    assert echoself("compare --candidates worse,better,copy")["winner"] == "better"
    assert echoself(f"compare --candidates worse,copy,{two[0]['model_dir']}")["winner"] == ""  # type: ignore[index]


def test_the_default_candidates_are_the_published_model_and_the_best_checkpoint_and_promote_moves_the_tag_best(
    echoself: Cli, two: tuple[dict[str, str], dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    first = echoself(f"deploy {HUB} --repo-id me/model --output-dir worse --tag v1")
    here = echoself(f"compare {HUB} --repo-id me/model --output-dir better --promote better")
    assert (here["winner"], here["tag"]) == ("better", "")
    assert "better is not on the Hub, so no tag was set" in capsys.readouterr().out
    published = echoself(f"compare {HUB} --repo-id me/model --output-dir worse --promote better")
    assert published["winner"] == published["tag"] == ""  # they are equal
    with open_hub("hub", None) as hub:
        hub.api.create_tag("me/model", tag="best", revision=first["commit_sha"])
    second = echoself(f"deploy {HUB} --repo-id me/model --output-dir better")
    pair = f"compare {HUB} --candidates me/model@v1,me/model --data docs/*.md"
    assert echoself(pair)["tag"] == ""  # nobody asked for it
    assert tags()["best"] == first["commit_sha"]
    compared = echoself(pair, "--promote better")
    assert (compared["winner"], compared["tag"], compared["revision"]) == ("me/model", "best", "main")
    assert compared["commit_sha"] == second["commit_sha"] == tags()["best"]
    assert compared["repo_url"].endswith("/me/model")
    assert compared["model_dir"] == ""  # what was fetched is gone
    assert f"(was {first['commit_sha']})" in capsys.readouterr().out
    assert echoself(pair, "--promote better --tag v2")["tag"] == "v2"
    assert tags()["v2"] == second["commit_sha"]
    echoself(pair, "--promote better --tag v1", code=4)
    assert tags()["v1"] == first["commit_sha"]
    assert echoself(pair, "--promote better --tag timestamp")["tag"].startswith("hf-deploy-2")


def test_models_with_different_tokenizers_are_compared_in_bits_per_byte(
    echoself: Cli, two: object, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself(BETTER.replace("bytes", "bpe:300"), "--output-dir bpe")
    for candidates in ("bpe,better", "better,bpe"):  # its tokens are the harder ones to tell, and its bytes the easier ones
        assert echoself(f"compare --candidates {candidates}")["winner"] == "bpe"
        assert "bits per byte, difference" in capsys.readouterr().out
    save(nanogpt_checkpoint(), Path("ckpt.pt"))
    echoself("compare --candidates better,ckpt.pt", code=2)
    assert "The vocabulary of this model is unknown" in capsys.readouterr().err


def test_a_candidate_that_cant_be_read_is_named_and_nothing_is_compared(
    echoself: Cli, two: tuple[dict[str, str], dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    Path("junk.pt").write_text("no checkpoint")
    with (Path(two[0]["model_dir"]) / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"????")
    with open_hub("hub", None) as hub:
        hub.api.create_repo("me/empty")
    for candidates, code, message in (
        ("better,empty", 3, "empty has no config.json"),
        ("better,junk.pt", 3, "junk.pt"),
        ("better,worse", 3, "model.safetensors is damaged"),
        ("better,nowhere", 2, "'nowhere' is neither an existing path nor a valid repo id. Nothing was compared."),
        ("better,me/a--b", 2, "'me/a--b' is neither an existing path nor a valid repo id. Nothing was compared."),
        ("better,me/none", 4, "me/none on"),
        ("better,me/empty", 3, "has no model at revision main. Nothing was compared."),
        ("better,me/empty@v9", 4, "does not exist at revision v9"),
    ):
        outputs = echoself(f"compare {HUB} --candidates {candidates}", code=code)
        assert message in capsys.readouterr().err
        assert not outputs
    assert not Path("echoself-model/compare.html").exists()


def test_without_held_out_text_data_is_required(echoself: Cli, two: object, capsys: pytest.CaptureFixture[str]) -> None:
    for kept in (*Path("worse").rglob("held_out.safetensors"), *Path("better").rglob("held_out.safetensors")):
        kept.unlink()
    assert echoself("compare --candidates worse,better --data docs/*.md")["winner"] == "better"
    assert "windows, held out of docs/*.md" in capsys.readouterr().out
    echoself("compare --candidates worse,better --data none/*.md", code=2)
    assert "matches no file" in capsys.readouterr().err
