"""What every benchmark does with its figures besides printing them: `--json FILE`, and a chart with `--plot FILE.png`."""

import argparse
import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .processes import end_children_with_this_process


class _Parser(argparse.ArgumentParser):
    def parse_args(self, *arguments: Any, **named: Any) -> Any:
        """The options, and from here on children end with this process."""
        options = super().parse_args(*arguments, **named)
        end_children_with_this_process()
        return options


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options of all benchmarks. Once it has parsed, this process's children end with it."""
    made = _Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=_file, help="where to write the figures, the settings and the machine")
    made.add_argument("--plot", type=_file, help="where to draw the figures: a PNG")
    return made


class Figures:
    """What was measured: by what it is (with its unit) and of whom, a value for each turn."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._values: dict[str, dict[str, list[float]]] = {}

    def add(self, what: str, of: str, *values: float) -> None:
        """Further `values`, as many as there are; `what` ends with the unit: "peak memory, MB"."""
        if values:
            self._values.setdefault(what, {}).setdefault(of, []).extend(values)

    def write(self) -> None:
        """Where `--json` and `--plot` say, if they do."""
        settings = {name: value for name, value in vars(self._given).items() if name not in ("json", "plot")}
        told = {
            "benchmark": Path(sys.argv[0]).stem,
            "machine": machine(),
            "settings": {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()},
            "figures": {
                what: {of: _told(values) for of, values in measured.items()} for what, measured in self._values.items()
            },
        }
        if self._given.json:
            self._given.json.write_text(json.dumps(told, indent=2) + "\n")
        if self._given.plot:
            _plot(f"{told['benchmark']}\n{told['machine']}", self._values, self._given.plot)


def _file(word: str) -> Path:
    """From now on, for a benchmark may change its folder; in a folder that is there, before minutes of measuring."""
    path = Path(word).absolute()
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent} to write {path.name} to")
    return path


def spread(values: Sequence[float], form: str) -> str:
    """The median and the range, for a table; nothing where there are no values."""
    if not values:
        return ""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def machine() -> str:
    """What the figures were measured on."""
    import torch

    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = model[1] if model else platform.processor()
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{os.cpu_count()} cores of {name}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def _told(values: list[float]) -> dict[str, float | list[float]]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "values": values}


def _plot(title: str, figures: dict[str, dict[str, list[float]]], path: Path) -> None:
    """A chart for each thing that was measured: medians as bars, the range as a line on each."""
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
