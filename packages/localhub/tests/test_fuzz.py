"""The small forms of fuzz.py and fuzz_accounts.py, which run for as long as one likes."""

import importlib
import random
from pathlib import Path

import pytest
from localhub import LocalHub


@pytest.fixture
def module(monkeypatch):
    """A module beside this one."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module


def test_random_requests_do_no_harm(tmp_path, module):
    with LocalHub(tmp_path / "hub") as hub:
        fuzzer = module("fuzz").Fuzzer(hub.url, random.Random(21))
        fuzzer.round(200)
    assert fuzzer.faults == []
    assert fuzzer.answers[200] > 50
    assert sum(fuzzer.answers.values()) > 200


def test_random_requests_show_nothing_private_to_strangers(tmp_path, module):
    fuzz = module("fuzz_accounts")
    with LocalHub(tmp_path / "hub", accounts=fuzz.ACCOUNTS) as hub:
        crowd = fuzz.Crowd.at(hub.url, 21)
        crowd.round(150)
        # the check finds what is shown: here, to those who may read it
        assert crowd.owner.shown > 20
        assert crowd.reader.shown > 5
        assert crowd.faults == []
        assert all(stranger.answers[200] > 5 for stranger in crowd.strangers)
        crowd.strangers[0].token = "hf_reader"
        crowd.strangers[0].look()
        assert any(fault.startswith("shown to hf_reader: GET / ") for fault in crowd.faults)
