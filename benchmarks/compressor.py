"""Bits per byte of the held-out text by a general compressor, PPMd, that has read the training text.

    python benchmarks/compressor.py [--corpus FOLDER_OR_FILE ...] [--model FOLDER] [--orders 4-12] [--memory MIB]

The split is this package's own. PPMd gets the training text followed by the held-out text; the bytes that the second adds to
the size of the first are its figure. It adapts while it reads the held-out text, which a trained model does not: the row `each
document alone` has the best of these compressors where each held-out document follows the training text by itself. `--model`
adds the figure of a model folder on the same text: the whole of it, in fp32.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from common import results
from common.corpora import add_corpora, bits_per_byte_of_folder, name_of, split_text
from common.results import Figures

from echoself_action.corpus.ppmd import added_bits_per_byte

VARIANTS = ("H", "I")  # 7-Zip's and Zip's


def main() -> None:
    parser = results.parser(__doc__)
    add_corpora(parser)
    parser.add_argument("--model", type=Path, nargs="+", default=[], help="model folders, for each corpus")
    parser.add_argument("--orders", type=_orders, default=_orders("4-12"), help="first and last order of PPMd, as 4-12")
    parser.add_argument("--memory", type=int, help="MiB that PPMd may use; by default enough for the text")
    given = parser.parse_args()
    figures = Figures(given)
    memory = given.memory and given.memory << 20
    print("| corpus | training text, bytes | held-out text, bytes | program | bits per byte |")
    print("|---|---|---|---|---|")
    for corpus in given.corpus:
        text = split_text(corpus)
        train, held_out = ("".join(documents).encode() for documents in (text.train, text.held_out))
        compressors = {
            f"PPMd {variant}, order {order}": partial(added_bits_per_byte, order=order, memory=memory, variant=variant)
            for variant in VARIANTS
            for order in given.orders
        }
        rows = {name: added(train, held_out) for name, added in compressors.items()}
        least = min(rows, key=lambda name: rows[name])
        rows[f"{least}, each document alone"] = alone(compressors[least], train, text.held_out)
        for folder in given.model:
            rows[f"{folder}"] = bits_per_byte_of_folder(folder, text.held_out)
        for program, bits in rows.items():
            mark = " (the least of PPMd's)" if program == least else ""
            print(f"| {name_of(corpus)} | {len(train):,} | {len(held_out):,} | {program} | {bits:.4f}{mark} |", flush=True)
            figures.add("bits per byte", f"{name_of(corpus)}: {program}", bits)
    figures.write()


def alone(added: Callable[[bytes, bytes], float], train: bytes, documents: Sequence[str]) -> float:
    """The same, where each document follows `train` by itself: nothing is learnt from the other held-out documents."""
    texts = [text.encode() for text in documents]
    return sum(added(train, text) * len(text) for text in texts) / sum(map(len, texts))


def _orders(word: str) -> range:
    first, _, last = word.partition("-")
    if not (first.isdigit() and (last or first).isdigit() and 2 <= int(first) <= int(last or first) <= 64):
        raise argparse.ArgumentTypeError(f"{word!r} is not a range of orders from 2 to 64, such as 4-12")
    return range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    main()
