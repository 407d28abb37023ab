"""Time and traffic of publishing a model of 500 MB, and of publishing it again unchanged.

    python benchmarks/redeploy.py [--layers 18] [--turns 3]

A model of 127M parameters is trained for one step and published to a local Hub in the measuring process. Bytes are the traffic
of the loopback interface, and the growth of the Hub's folder. Times are of whole processes.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import results
from common.results import Figures
from localhub import LocalHub

SHAPE = "--n-head 12 --n-embd 768 --block-size 64 --batch-size 1 --tokenizer bytes --device cpu --eval-tokens 64 --max-iters 1"


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    figures = Figures(given)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "text.md").write_text("".join(f"Sentence {i} says that {i * i} is a square.\n\n" for i in range(4000)))
        echoself(f"train --data *.md --n-layer {given.layers} {SHAPE}", work)
        weights = next(work.glob("echoself-model/checkpoint-*/model.safetensors")).stat().st_size
        print(f"model.safetensors has {weights:,} bytes")
        print("| publish | seconds | bytes over the network | bytes more on the Hub |")
        print("|---|---|---|---|")
        with LocalHub(work / "hub") as hub:
            for turn in range(given.turns + 1):
                before, stored, began = carried(), size(work / "hub"), time.monotonic()
                output = echoself(f"deploy --hub {hub.url} --repo-id me/model", work)
                took = time.monotonic() - began
                assert f"deployed={'true' if turn == 0 else 'false'}\n" in output, output
                sent, more = carried() - before, size(work / "hub") - stored
                name, short = (f"again, {turn}", "again") if turn else ("the first", "the first")
                print(f"| {name} | {took:.1f} | {sent:,} | {more:,} |", flush=True)
                figures.add("publish, s", short, took)
                figures.add("over the network, bytes", short, sent)
                figures.add("more on the Hub, bytes", short, more)
    figures.write()


def echoself(words: str, work: Path) -> str:
    command = [sys.executable, "-m", "echoself_action", *words.split()]
    ended = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(ended.stdout + ended.stderr)
    return ended.stdout


def carried() -> int:
    """Bytes that the loopback has carried so far."""
    found = re.search(r"lo:\s*(\d+)", Path("/proc/net/dev").read_text())
    assert found
    return int(found[1])


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0


if __name__ == "__main__":
    main()
