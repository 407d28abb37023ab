"""A dataset repo on the Hub: one commit on top of the one that was looked at, and the documents at the commit that has them."""

from pathlib import Path

import pytest
from localhub import LocalHub

from echoself_action.checkpoint.metadata import DatasetFacts
from echoself_action.errors import MovedOnError
from echoself_action.hub.client import datasets_of, open_hub
from echoself_action.hub.dataset_repo import outdated_shards, pinned_dataset
from echoself_action.hub.endpoint import Hub
from echoself_action.hub.publish import ensure_repo, publish_model
from echoself_action.hub.repo import MAIN, Remote, find_repo

from .faults import Effect, Fault, FaultyHub, lost_answer, status, timed_out_behind

REPO = "me/words"
ONE = {"data/train.parquet": b"PAR1 one", "data/validation.parquet": b"PAR1 two"}


@pytest.fixture
def datasets(hub: Hub) -> Hub:
    return datasets_of(hub, REPO)


def seen(hub: Hub) -> Remote:
    return ensure_repo(hub, Remote(REPO, MAIN, find_repo(hub, REPO, MAIN), None), private=False)


def test_a_dataset_repo_and_a_model_repo_may_have_the_same_name(hub: Hub, datasets: Hub) -> None:
    publish_model(datasets, seen(datasets), ONE, "Documents")
    assert find_repo(hub, REPO, MAIN) is None
    assert datasets.url(REPO) == f"{hub.endpoint}/datasets/{REPO}"


def test_the_second_of_two_publishes_is_refused_and_overwrites_nothing(datasets: Hub) -> None:
    stale = seen(datasets)
    first = publish_model(datasets, stale, ONE, "Documents")
    with pytest.raises(MovedOnError, match=f"datasets/{REPO} on .* refused"):
        publish_model(datasets, stale, ONE | {"data/train.parquet": b"PAR1 other"}, "Documents")
    there = find_repo(datasets, REPO, MAIN)
    assert there
    assert there.commit == first.commit


def test_only_generated_shards_are_removed(datasets: Hub) -> None:
    theirs = {
        "data/mine.parquet": b"PAR1",
        "data/train-01.parquet.bak": b"x",
        "train.parquet": b"PAR1",
        "notes.md": b"# Mine\n",
    }
    publish_model(datasets, seen(datasets), {"data/train-01.parquet": b"PAR1", **theirs}, "Documents")
    remote = seen(datasets)
    removed = outdated_shards(ONE, remote.model, "data")
    assert removed == ("data/train-01.parquet",)
    publish_model(datasets, remote, ONE, "Documents", removed)
    there = find_repo(datasets, REPO, MAIN)
    assert there
    assert there.files.keys() == ONE.keys() | theirs.keys() | {".gitattributes"}


@pytest.mark.parametrize("effect", [lost_answer, timed_out_behind, status(503)])
def test_a_commit_with_a_lost_response_is_made_once(tmp_path: Path, effect: Effect) -> None:
    fault = Fault("POST", "/api/datasets/me/words/commit/main$", effect, nth=2)
    with LocalHub(tmp_path / "served") as server, FaultyHub(server.url, [fault]) as faulty, open_hub(faulty.url, None) as hub:
        datasets = datasets_of(hub, REPO)
        publish_model(datasets, seen(datasets), {"data/train-0.parquet": b"PAR1"}, "Documents")
        remote = seen(datasets)
        made = publish_model(datasets, remote, ONE, "Documents", outdated_shards(ONE, remote.model, "data"))
        assert fault.struck
        there = find_repo(datasets, REPO, MAIN)
        assert there
        assert there.commit == made.commit
        assert there.files.keys() == ONE.keys() | {".gitattributes"}
        assert len(datasets.api.list_repo_commits(REPO, repo_type="dataset")) == 3


def test_the_recorded_commit_is_kept_if_it_has_exactly_the_same_documents(datasets: Hub) -> None:
    first = publish_model(datasets, seen(datasets), ONE, "Documents").commit
    known = DatasetFacts(repo_id=REPO, commit=first)
    head = publish_model(datasets, seen(datasets), {"notes.txt": b"a word"}, "A note").commit
    assert pinned_dataset(datasets, seen(datasets), ONE, head, known) == known
    assert pinned_dataset(datasets, seen(datasets), ONE, head, None).commit == head
    fewer = {name: content for name, content in ONE.items() if "train" in name}
    assert pinned_dataset(datasets, seen(datasets), fewer, head, known).commit == head
    elsewhere = DatasetFacts(repo_id=REPO, commit="0" * 40)
    assert pinned_dataset(datasets, seen(datasets), ONE, head, elsewhere).commit == head


def test_a_new_dataset_repo_is_private_with_the_input_private(datasets: Hub) -> None:
    ensure_repo(datasets, Remote(REPO, MAIN, None, None), private=True)
    assert datasets.api.dataset_info(REPO).private
