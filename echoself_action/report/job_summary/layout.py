"""The parts of a job summary, in their order: result, warnings, curve, sample, next step, and the rest folded.

GitHub's Markdown has no colours and no inline SVG, and leaves out most HTML. What remains is used: headings, tables,
`<details>`, `<b>` and Mermaid.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...checkpoint.metadata import BITS_PER_BYTE, Sample, loss_text
from ...checkpoint.model_folder import ModelFolder
from ...markdown import prose, table

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_CHANGE = ("what", "before", "now", "change")  # the head of a table


@dataclass(frozen=True)
class Folded:
    """A part that is shown when its title is clicked. `title` is plain text, `content` is Markdown."""

    title: str
    content: str


@dataclass(frozen=True)
class JobSummary:
    """`title` is plain text: the result, and the one number. All other texts are Markdown; empty ones are left out.

    `lead` says more about the result, `warnings` what needs an action, `next_step` what to do now.
    """

    title: str
    lead: Sequence[str] = ()
    warnings: Sequence[str] = ()
    chart: str = ""
    sample: Sample | None = None
    next_step: str = ""
    folded: Sequence[Folded] = ()

    def markdown(self) -> str:
        parts = [
            f"# {prose(self.title)}",
            *self.lead,
            *self.warnings,
            self.chart,
            sample_markdown(self.sample) if self.sample else "",
            f"**Next:** {self.next_step}" if self.next_step else "",
            *(fold(part.title, part.content) for part in self.folded if part.content),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"


def fold(title: str, content: str, is_open: bool = False) -> str:
    """Markdown that is shown when `title` (plain text) is clicked."""
    return (
        f"<details{' open' if is_open else ''}><summary>{html.escape(title, quote=False)}</summary>\n\n{content}\n\n</details>"
    )


def sample_markdown(sample: Sample) -> str:
    """A sample as a quotation, with its prompt in bold."""
    source = "from the held-out text" if sample.from_corpus else "that is a usual one, because no text of its corpus is at hand"
    return f"What the model writes after a prompt (bold) {source}:\n\n{quoted(sample)}"


def quoted(sample: Sample) -> str:
    """The text of a sample as a quotation, with its prompt in bold."""
    start = f"<b>{_as_it_is(sample.prompt)}</b>" if sample.prompt.strip() else ""
    return f"> {start}{_as_it_is(sample.continuation.rstrip())}"


def change_text(before: float | None, now: float | None) -> str:
    """Bits per byte before and now, for a title; "" if they are unknown."""
    if now is None:
        return ""
    shown = f"{now:.4f} {BITS_PER_BYTE}"
    first = "" if before is None else f"{before:.4f}"
    return f"{first} \N{RIGHTWARDS ARROW} {shown}" if first and not shown.startswith(first) else shown


def known_loss(model: ModelFolder) -> str:
    """The held-out loss of a model for a title: in bits per byte; in nats per token where these are unknown."""
    facts = model.metadata
    if facts is None or facts.val_loss is None:
        return f"step {model.step:,}, not evaluated" if model.step else "a model that was not evaluated"
    return change_text(None, facts.bits_per_byte) or loss_text(facts.val_loss, None)


def change_table(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """A table of what was before, and what is now; "" without rows."""
    return table(_CHANGE, rows) if rows else ""


def sentence(text: str) -> str:
    """`text` with a capital at its start and a full stop at its end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _as_it_is(text: str) -> str:
    """Generated text in one paragraph, in which nothing is Markdown; its line breaks and the indentation of lines are kept."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    lines = [line.expandtabs(4) for line in re.sub(r"\n{3,}", "\n\n", text).splitlines()] or [""]
    shown = []
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip(" ")) if number else 0
        start = "&nbsp;" * min(indent, 40)
        shown.append(start + re.sub(r"(?<= ) ", "&nbsp;", prose(line[indent:], is_start=False)))
    return "<br>".join(shown)
