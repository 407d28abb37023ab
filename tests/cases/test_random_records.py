"""Random records: every text is in the document, or its loss is reported. tests/stress/fuzz_records.py runs for minutes."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from .record_strategies import Record, records, unreported

BOUNDED = settings(max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_every_text_of_a_random_record_is_learnt_or_reported(name: str) -> None:
    outcomes: set[str] = set()

    @BOUNDED
    @given(records())
    def check(record: Record) -> None:
        with tempfile.TemporaryDirectory() as folder:
            lost, how = unreported(record, Path(folder) / name)
            outcomes.add(how)
            assert lost == []

    check()
    assert {"read", "skipped records"} <= outcomes
