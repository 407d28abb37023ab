import pytest

from echoself_action.report.text import code, harmless, indented

COMMANDS = [
    "::error::x",
    "  ::set-output name=a::b",
    "fine\n::add-mask::x",
    "fine\r::stop-commands::x",
    "a\u2028::debug::x",
    "##[group]x",
]


@pytest.mark.parametrize("text", COMMANDS)
def test_no_line_of_a_log_is_a_workflow_command(text: str) -> None:
    shown = harmless(text)
    for line in shown.replace("\r", "\n").replace("\u2028", "\n").split("\n"):
        assert not line.lstrip().startswith("::")
        assert "##[" not in line


def test_ordinary_text_is_left_as_it_is() -> None:
    assert harmless("step 1: a::b\n\nmore # text") == "step 1: a::b\n\nmore # text"


@pytest.mark.parametrize("text", ["```\n# out", "</code></pre>\n# out", "a\r# out"])
def test_no_text_ends_its_code_block(text: str) -> None:
    assert all(line.startswith("    ") for line in indented(text).splitlines())


def test_no_text_ends_its_cell_of_a_table() -> None:
    assert code("a|b`c\nd") == "`a\\|b'c d`"
