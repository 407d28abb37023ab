"""The job summary over several models that ran in one job."""

from collections.abc import Mapping
from typing import Any

from .text import code

_ENDS = {0: "done", 1: "a bug of ours", 2: "wrong inputs", 3: "unusable model", 4: "the Hub refused", 5: "refused by the gate"}


def models_summary(models: Mapping[str, Any], codes: Mapping[str, int], outputs: Mapping[str, Mapping[str, str]]) -> str:
    """Markdown: a line a model. `codes` are the exit codes of those that ran, `outputs` what they gave."""
    failed = sum(codes.get(name, -1) != 0 for name in models)
    said = f"{failed} of {len(models)} not done" if failed else f"all {len(models)} done"
    lines = ["| model | end | step | validation loss | gate | published |", "|---|---|---|---|---|---|"]
    for name in models:
        given = outputs.get(name, {})
        ended = _ENDS.get(codes[name], "interrupted") if name in codes else "not run"
        step, gate = given.get("step", ""), given.get("gate_result", "")
        row = [code(name), ended, step, given.get("val_loss", ""), gate, _published(given)]
        lines.append(f"| {' | '.join(row)} |")
    return f"# Models: {said}\n\n" + "\n".join(lines) + "\n"


def _published(outputs: Mapping[str, str]) -> str:
    url, commit = outputs.get("repo_url", ""), outputs.get("commit_sha", "")
    if not url or outputs.get("deployed") not in ("true", "false") or not commit:
        return ""
    what = "new" if outputs["deployed"] == "true" else "unchanged"
    return f"[{what}: {commit[:7]}]({url}/commit/{commit})"
