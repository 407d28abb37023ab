"""The summary of a run with several models: a table of all, above the summary of each."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...errors import EXIT_CODES, GATE_REFUSED
from ...markdown import code, table
from .layout import JobSummary, fold

_HEAD = ("model", "result", "bits per byte", "published")  # more columns would not fit on a phone


def models_summary(models: Mapping[str, Any], codes: Mapping[str, int], outputs: Mapping[str, Mapping[str, str]]) -> JobSummary:
    """One row for each model. `codes` and `outputs` are the exit codes and outputs of those that ran."""
    results = {name: _result(codes.get(name), outputs.get(name, {})) for name in models}
    counts = ", ".join(f"{count} {result}" for result, count in Counter(results.values()).items())
    failed = [name for name in models if codes.get(name, -1) not in (0, GATE_REFUSED)]
    rows = []
    for name in models:
        found = outputs.get(name, {})
        bits = f"{float(found['bits_per_byte']):.4f}" if found.get("bits_per_byte") else ""
        rows.append((code(name), results[name], bits, _commit_link(found)))
    used = [column for column in range(len(_HEAD)) if any(row[column] for row in rows)]
    todo = f"see what to do for {', '.join(map(code, failed))} below." if failed else "nothing to do; the details are below."
    return JobSummary(
        title=f"{len(models)} models: {counts}",
        lead=[table([_HEAD[column] for column in used], [[row[column] for column in used] for row in rows])],
        next_step=todo,
    )


def model_section(name: str, exit_code: int, outputs: Mapping[str, str], summary: str) -> str:
    """The `summary` of one model, folded under its name unless it failed, with its title as a smaller heading."""
    smaller = re.sub(r"^# ", "### ", summary.strip(), flags=re.MULTILINE)
    failed = exit_code not in (0, GATE_REFUSED)
    return fold(f"{name}: {_result(exit_code, outputs)}", smaller or "It wrote no summary.", is_open=failed) + "\n"


def _result(exit_code: int | None, outputs: Mapping[str, str]) -> str:
    if exit_code is None:
        return "not run"
    if exit_code == 0:
        return outputs.get("result", "").replace("_", " ") or "completed"
    return EXIT_CODES.get(exit_code, f"exit code {exit_code}")


def _commit_link(outputs: Mapping[str, str]) -> str:
    url, commit = outputs.get("repo_url", ""), outputs.get("commit_sha", "")
    if not url or outputs.get("deployed") not in ("true", "false") or not commit:
        return ""
    change = "new" if outputs["deployed"] == "true" else "unchanged"
    return f"[{change}: {commit[:7]}]({url}/commit/{commit})"
