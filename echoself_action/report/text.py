"""Text from outside (corpus, model, inputs, errors), made fit for the places where a runner or Markdown would act on it."""


def harmless(text: str) -> str:
    """For a job log: no line of it is a workflow command any more.

    The runner acts on a line that begins with `::`, and on `##[` anywhere in one.
    """
    return "\n".join(f"| {line}" if line.lstrip().startswith("::") else line for line in _lines(text)).replace("##[", "## [")


def indented(text: str) -> str:
    """For Markdown: a code block that no content can end."""
    return "\n".join(f"    {line}" for line in _lines(text))


def code(text: object) -> str:
    """For a cell of a Markdown table: inline code on one line."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "\\|") + "`"


def _lines(text: str) -> list[str]:
    """Every way of ending a line, not only \\n: what shows as a line may be read as one."""
    return text.splitlines() or [""]
