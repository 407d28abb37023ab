"""datasets, against a Hub: one process makes all calls (datasets_calls.py), the tests read what it got."""

import pytest


@pytest.fixture(scope="module")
def found(run_calls):
    return run_calls("datasets")


def test_splits_of_a_private_dataset(found):
    got = found["splits_of_a_private_dataset"]
    assert got["rows"] == {"train": 20, "test": 5}
    assert got["first"] == {"x": 100, "text": "text 0"}
    assert got["part"] == [0, 1, 2, 3, 4]
    assert (sorted(got["names"]), got["builder"], got["private"]) == (["test", "train"], ["text", "x"], True)
    assert got["anonymous"].startswith("DatasetNotFoundError")
    assert "403" in got["stranger"] or "not found" in got["stranger"]


def test_configurations_have_their_own_files(found):
    got = found["configurations_have_their_own_files"]
    assert (got["names"], got["rows"]) == (["en", "fr"], 4)
    assert "BuilderConfig 'de' not found" in got["unknown"]
    assert "Config name is missing" in got["which"]


def test_a_dataset_is_streamed(found):
    assert found["a_dataset_is_streamed"] == {"shards": 4, "sum": 499500, "skipped": 600, "columns": ["text"]}


def test_branches_tags_and_pull_requests_are_revisions(found):
    got = found["branches_tags_and_pull_requests_are_revisions"]
    assert got["rows"] == [4, 1, 2, 3]
    assert got["missing"].startswith("DatasetNotFoundError: Revision 'none' doesn't exist")


def test_a_push_replaces_the_shards_of_the_one_before(found):
    assert found["a_push_replaces_the_shards_of_the_one_before"] == {"rows": [8, 6], "files": [4, 2]}


def test_files_are_loaded_as_they_are(found):
    assert found["files_are_loaded_as_they_are"] == {"file": [1, 2], "folder": ["z"], "by url": 2, "pandas": ["x", "y"]}
