"""transformers, against a Hub: one process makes all calls (transformers_calls.py), the tests read what it got."""

import pytest


@pytest.fixture(scope="module")
def found(run_calls):
    return run_calls("transformers")


def test_model_config_and_tokenizer_are_pushed_and_loaded(found):
    got = found["model_config_and_tokenizer_are_pushed_and_loaded"]
    assert got["missing"].startswith("OSError: me/none is not a local folder and is not a valid model identifier")
    assert got["no weights"].startswith("OSError: me/config does not appear to have a file named")
    del got["missing"], got["no weights"]
    assert got == {
        "model": True,
        "tokenizer": [2, 3],
        "config": 33,
        "generation": 1,
        "tag": True,
        "parameters": 2144,
        "generated": 1,
    }


def test_a_model_is_pushed_in_shards(found):
    assert found["a_model_is_pushed_in_shards"] == {"shards": 4, "model": True}


def test_branches_tags_and_pull_requests_are_revisions(found):
    got = found["branches_tags_and_pull_requests_are_revisions"]
    assert got["sizes"] == [13, 10, 11, 12, 10]
    assert "none is not a valid git identifier" in got["missing"]


def test_a_private_model_needs_the_token(found):
    got = found["a_private_model_needs_the_token"]
    assert (got["private"], got["length"]) == (True, 4)
    assert "private repository" in got["anonymous"]
    assert "403" in got["stranger"]


def test_code_of_a_repo_is_loaded(found):
    assert found["code_of_a_repo_is_loaded"] == {"kind": "code of the Hub"}
