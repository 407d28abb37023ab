"""The options and figures of all benchmarks: `--json FILE` writes the figures, `--plot FILE.png` draws them."""

import argparse
import functools
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .processes import end_children_with_this_process

# two-sided, 5%, by the degrees of freedom (Student's distribution)
_CRITICAL = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")


class _Parser(argparse.ArgumentParser):
    def parse_args(self, *arguments: Any, **named: Any) -> Any:
        """The options, and from here on children end with this process."""
        options = super().parse_args(*arguments, **named)
        end_children_with_this_process()
        return options


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options of all benchmarks. Once it has parsed, this process's children end with it."""
    made = _Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=_file, help="file for the figures, the settings and the machine")
    made.add_argument("--plot", type=_file, help="file for a chart of the figures (PNG)")
    return made


class Figures:
    """Measured values, by quantity (with its unit) and program: one for each turn."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._values: dict[str, dict[str, list[float]]] = {}

    def add(self, what: str, of: str, *values: float) -> None:
        """Add `values`; `what` ends with the unit: "peak memory, MB"."""
        if values:
            self._values.setdefault(what, {}).setdefault(of, []).extend(values)

    def write(self, draw: Callable[[str, Path], None] | None = None, **further: object) -> None:
        """Write the files of `--json` and `--plot`. `further` is added to the first; `draw(title, path)` replaces the second's
        chart of medians."""
        settings = {name: value for name, value in vars(self._given).items() if name not in ("json", "plot")}
        content = {
            "benchmark": Path(sys.argv[0]).stem,
            "machine": machine(),
            "settings": {name: _plain(value) for name, value in settings.items()},
            "figures": {
                what: {of: _summary(values) for of, values in measured.items()} for what, measured in self._values.items()
            },
            **further,
        }
        if self._given.json:
            self._given.json.write_text(json.dumps(content, indent=2) + "\n")
        if self._given.plot:
            title = f"{content['benchmark']}\n{content['machine']}"
            if draw:
                draw(title, self._given.plot)
            elif self._values:
                _plot(title, self._values, self._given.plot)


def _plain(value: object) -> object:
    """A setting as JSON."""
    if isinstance(value, (list, range)):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _file(word: str) -> Path:
    """An absolute path, because a benchmark may change its folder. A missing folder is an error now, not after minutes."""
    path = Path(word).absolute()
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {path.parent} for {path.name} does not exist")
    return path


def spread(values: Sequence[float], form: str) -> str:
    """The median and the range, for a table; empty without values."""
    if not values:
        return ""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def paired(bits: dict[int, float], others: dict[int, float]) -> tuple[str, str, str]:
    """The mean ratio to `others` over the seeds of both, its paired t, and whether that is significant; empty without any.

    A difference is significant if a two-sided t-test of the logarithms of the ratios gives p < 0.05.
    """
    logs = [math.log(bits[seed] / others[seed]) for seed in bits.keys() & others.keys()]
    if not logs:
        return "", "", ""
    ratio = f"{math.exp(statistics.mean(logs)):.4f}"
    if len(logs) < 2:
        return ratio, "", ""
    error = statistics.stdev(logs) / math.sqrt(len(logs))
    t = statistics.mean(logs) / error if error else math.copysign(math.inf, statistics.mean(logs))
    critical = _CRITICAL[min(len(logs) - 1, len(_CRITICAL) - 1)]
    return ratio, f"{t:.2f}", "yes" if abs(t) > critical else "no"


def print_row(*cells: str) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def machine() -> str:
    """The machine of the figures, and what its programs are limited to (`--isa`)."""
    import torch

    from .instruction_sets import describe_limit

    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    found = [f"{gpu}{os.cpu_count()} cores of {_cpu()}, torch {torch.__version__}", describe_limit()]
    return "; ".join(filter(None, found))


@functools.cache
def _cpu() -> str:
    """The CPU by lscpu: "AMD EPYC (family 26, model 2; avx2 fma)", with those of its instructions that matter here."""
    if not shutil.which("lscpu"):
        return platform.processor() or platform.machine()
    printed = subprocess.run(["lscpu"], env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=True).stdout
    facts = dict(re.findall(r"^\s*([^:\n]+):\s*(.*)$", printed, re.MULTILINE))
    flags = " ".join(flag for flag in facts.get("Flags", "").split() if flag in _INSTRUCTIONS)
    details = [f"{name} {facts[key]}" for name, key in (("family", "CPU family"), ("model", "Model")) if key in facts]
    return f"{facts.get('Model name', platform.machine())} ({'; '.join(filter(None, (', '.join(details), flags)))})"


def _summary(values: list[float]) -> dict[str, float | list[float]]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "values": values}


def _plot(title: str, figures: dict[str, dict[str, list[float]]], path: Path) -> None:
    """A chart for each quantity: medians as bars, with the range as error bars."""
    from matplotlib.figure import Figure

    bars = [len(measured) + 2 for measured in figures.values()]
    figure = Figure(figsize=(9, 1 + 0.3 * sum(bars)), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    all_axes = figure.subplots(len(bars), squeeze=False, height_ratios=bars)[:, 0]
    for axes, (what, measured) in zip(all_axes, figures.items(), strict=True):
        medians = [statistics.median(values) for values in measured.values()]
        below = [median - min(values) for median, values in zip(medians, measured.values(), strict=True)]
        above = [max(values) - median for median, values in zip(medians, measured.values(), strict=True)]
        axes.barh(list(measured), medians, xerr=(below, above), color="tab:blue", ecolor="black", capsize=3)
        axes.invert_yaxis()  # the first on top, as in a table
        axes.set_xlabel(what)
    figure.savefig(path, format="png")
