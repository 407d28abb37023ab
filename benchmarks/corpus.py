"""Time and memory for reading, splitting and tokenising a corpus, first and again unchanged, compared with the common scripts.

    python benchmarks/corpus.py [--megabytes 1000] [--tokenizers chars,bytes,bpe:4096,gpt2] [--turns 3]

Whole processes that take turns. Ours does what `train` does before its first step: it hashes every file, splits files into
documents and documents into train and val, and writes tokens to two files; `bpe:<size>` is trained on the corpus first. `plain`
has the text in one file and splits it at 90%: nanoGPT's prepare.py for `chars` and `gpt2`, Hugging Face's `tokenizers` for
`bpe`, NumPy for `bytes`. It holds everything in memory, so it gets no more than `--peer-megabytes`.

The text is a real one, repeated: with its paragraphs in another order each time, and random letters in every 200th word. `gpt2`
needs its vocabulary: set TIKTOKEN_CACHE_DIR on a machine without a network.
"""

import json
import os
import pickle
import random
import re
import shutil
import string
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common import results
from common.peers import TEXT
from common.results import Figures, machine, spread

ROOT = Path(__file__).parent.parent
_PARAGRAPHS = 400  # of a file: about 60 kB of Shakespeare
_ANSWER = """
import json, re
hwm = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(json.dumps({"trained": trained, "tokens": tokens, "peak": int(hwm[1]) / 1024}))
"""
OURS = """
import sys, time
from pathlib import Path
from echoself_action.config.mode_inputs import TrainInputs
from echoself_action.starting import tokenize_corpus

trained, make = 0.0, tokenize_corpus._tokenizer

def timed(*given):
    global trained
    began = time.perf_counter()
    made = make(*given)
    trained = time.perf_counter() - began
    return made

tokenize_corpus._tokenizer = timed
found = tokenize_corpus.corpus_tokens(TrainInputs(mode="train", data=("text/**",), tokenizer=sys.argv[1]), None)
tokens = len(found.train) + len(found.val)
"""
_PLAIN = """
import sys, time
import numpy as np

trained = 0.0
data = open("all.txt", encoding="utf-8").read()
train, val = data[: int(len(data) * 0.9)], data[int(len(data) * 0.9) :]
%s
tokens = 0
for name, part in (("train", train), ("val", val)):
    ids = np.array(encode(part), dtype=np.uint16)
    ids.tofile(f"plain-{name}.bin")
    tokens += len(ids)
"""
PLAIN = {
    "chars": "stoi = {ch: i for i, ch in enumerate(sorted(list(set(data))))}\nencode = lambda s: [stoi[c] for c in s]",
    "bytes": "encode = lambda s: np.frombuffer(s.encode(), np.uint8)",
    "gpt2": "import tiktoken\nencode = tiktoken.get_encoding('gpt2').encode_ordinary",
    "bpe": """
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
backend = Tokenizer(models.BPE())
backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=int(sys.argv[1][4:]), initial_alphabet=alphabet, show_progress=False)
began = time.perf_counter()
backend.train(["all.txt"], trainer)
trained = time.perf_counter() - began
encode = lambda s: backend.encode(s).ids
""",
}


@dataclass(frozen=True)
class Taken:
    """By one process: seconds by the clock, those that making the tokenizer took of them, processor seconds, peak MB."""

    seconds: float
    trained: float
    cpu: float
    peak: float
    tokens: int


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--megabytes", type=int, default=100, help="of text for ours")
    parser.add_argument("--peer-megabytes", type=int, default=100, help="of text for the plain way, at most")
    parser.add_argument("--tokenizers", default="chars,bytes,bpe:4096,gpt2")
    parser.add_argument("--turns", type=int, default=1)
    given = parser.parse_args()
    if not given.text.is_file():
        raise SystemExit(f"there is no {given.text}: give a text of a megabyte or so with --text")
    figures = Figures(given)
    print(machine())
    print("| tokenizer | who | MB | s | of which the tokenizer, s | MB/s | processor, s | peak memory, MB | M tokens |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        size, plain_size = write_corpus(given.text, work, given.megabytes * 10**6, given.peer_megabytes * 10**6)
        for tokenizer in given.tokenizers.split(","):
            taken = measured(tokenizer, work, given.turns)
            for who, all_taken in taken.items():
                tell(figures, tokenizer, who, all_taken, (plain_size if who == "plain" else size) / 1e6)
    figures.write()


def write_corpus(text: Path, work: Path, size: int, plain_size: int) -> tuple[int, int]:
    """`work`/text/, many files of `size` bytes together, and all.txt, the first `plain_size` of them; returns both sizes."""
    paragraphs = text.read_text(encoding="utf-8").split("\n\n")
    characters = sorted({*"\n\n".join(paragraphs), *string.ascii_lowercase})
    ids = {character: number for number, character in enumerate(characters)}
    (work / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": len(ids), "itos": dict(enumerate(characters)), "stoi": ids}))
    written = plain_written = copy = 0
    with (work / "all.txt").open("wb") as whole:
        while written < size:
            chance = random.Random(copy)
            chance.shuffle(paragraphs)
            (work / f"text/{copy}").mkdir(parents=True)
            for start in range(0, len(paragraphs), _PARAGRAPHS):
                words = "\n\n".join([*paragraphs[start : start + _PARAGRAPHS], ""]).split(" ")
                for i in range(100, len(words), 200):
                    words[i] = "".join(chance.choices(string.ascii_lowercase, k=4)) + words[i]
                content = " ".join(words).encode()[: size - written]
                if content:
                    (work / f"text/{copy}/{start}.txt").write_bytes(content)
                written += len(content)
                plain_written += whole.write(content[: plain_size - plain_written])
            copy += 1
    return written, plain_written


def measured(tokenizer: str, work: Path, turns: int) -> dict[str, list[Taken]]:
    """By who: what each turn took, until one fails; why it did is printed."""
    taken: dict[str, list[Taken]] = {}
    try:
        for _ in range(turns):
            shutil.rmtree(work / ".echoself", ignore_errors=True)
            for who, measure in (("ours", ours), ("ours, unchanged", ours), ("plain", plain)):
                one = measure(tokenizer, work)
                taken.setdefault(who, []).append(one)
    except subprocess.CalledProcessError as error:
        message = re.split(r"^\S+Error: ", error.stderr, flags=re.MULTILINE)[-1]
        why = " ".join(message.split()) or f"a process ended with {error.returncode}"
        print(f"The rest of {tokenizer} was not measured: {why}", flush=True)
    return taken


def ours(tokenizer: str, work: Path) -> Taken:
    return run(OURS, "meta.pkl" if tokenizer == "chars" else tokenizer, work)


def plain(tokenizer: str, work: Path) -> Taken:
    return run(_PLAIN % PLAIN[tokenizer.partition(":")[0]], tokenizer, work)


def run(program: str, tokenizer: str, work: Path) -> Taken:
    """Raises CalledProcessError where the process fails."""
    command = [sys.executable, "-c", program + _ANSWER, tokenizer]
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        command, cwd=work, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    seconds, after = time.perf_counter() - began, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    answer = json.loads(done.stdout.splitlines()[-1])
    return Taken(seconds, answer["trained"], cpu, answer["peak"], answer["tokens"])


def tell(figures: Figures, tokenizer: str, who: str, taken: list[Taken], megabytes: float) -> None:
    seconds, rates = [one.seconds for one in taken], [megabytes / one.seconds for one in taken]
    trained, cpu, peak = [one.trained for one in taken], [one.cpu for one in taken], [one.peak for one in taken]
    print(
        f"| {tokenizer} | {who} | {megabytes:,.0f} | {_spread(seconds)} | {_spread(trained)} | {_spread(rates)} | "
        f"{_spread(cpu)} | {max(peak):,.0f} | {taken[0].tokens / 1e6:.1f} |",
        flush=True,
    )
    of = f"{tokenizer}: {who}"
    figures.add("seconds", of, *seconds)
    figures.add("making the tokenizer, s", of, *trained)
    figures.add("MB/s", of, *rates)
    figures.add("processor time, s", of, *cpu)
    figures.add("peak memory, MB", of, *peak)


def _spread(values: list[float]) -> str:
    return spread(values, ".1f") if len(values) > 1 else f"{values[0]:.1f}"


if __name__ == "__main__":
    main()
