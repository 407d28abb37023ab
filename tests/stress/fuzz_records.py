"""Random records of a corpus: every text in one must be in its document, or a finding must say why it is not.

    python tests/stress/fuzz_records.py [--minutes 5] [--seed 1]

Records have the known shapes with random further keys, nulls and nesting (tests/cases/record_strategies.py), and are read from
JSON Lines, JSON and Parquet in turn. Exit code 1 with the smallest record that loses a text, and the seed of its batch.
"""

import collections
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from common import results
from common.results import Figures
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import HypothesisWarning

from tests.cases.record_strategies import Record, records, unreported

_BATCH = 500  # records between two looks at the clock
_FILES = ("a.jsonl", "a.json", "a.parquet")


def main() -> int:
    parser = results.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    figures = Figures(given)
    warnings.simplefilter("ignore", HypothesisWarning)
    counts: collections.Counter[str] = collections.Counter()
    end, number = time.monotonic() + 60 * given.minutes, given.seed
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            path = Path(folder) / _FILES[number % len(_FILES)]
            try:
                _batch(number, path, counts)
            except AssertionError as error:
                print(f"seed {number}, {path.name}: {error}\n" + "\n".join(getattr(error, "__notes__", [])))
                return 1
            number += 1
    print(f"{sum(counts.values()):,} records in {given.minutes:g} minutes, seeds {given.seed} to {number - 1}: {dict(counts)}")
    for kind, count in counts.items():
        figures.add("records", kind, count)
    figures.write()
    return 0


def _batch(number: int, path: Path, counts: collections.Counter[str]) -> None:
    @seed(number)
    @settings(max_examples=_BATCH, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(records())
    def check(record: Record) -> None:
        lost, how = unreported(record, path)
        counts[how] += 1
        assert lost == []

    check()


if __name__ == "__main__":
    sys.exit(main())
