"""The small form of fuzz.py, which runs for as long as one likes."""

import importlib.util
import random
from pathlib import Path

from localhub import LocalHub


def test_random_requests_do_no_harm(tmp_path):
    spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).with_name("fuzz.py"))
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    with LocalHub(tmp_path / "hub") as hub:
        fuzzer = fuzz.Fuzzer(hub.url, random.Random(21))
        fuzzer.round(200)
    assert fuzzer.faults == []
    assert fuzzer.answers[200] > 50
    assert sum(fuzzer.answers.values()) > 200
