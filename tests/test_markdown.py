import pytest

from echoself_action.markdown import code, duration, indented, wrapped


@pytest.mark.parametrize("text", ["```\n# out", "</code></pre>\n# out", "a\r# out"])
def test_no_text_ends_its_code_block(text: str) -> None:
    assert all(line.startswith("    ") for line in indented(text).splitlines())


def test_no_text_ends_its_table_cell() -> None:
    assert code("a|b`c\nd") == "`a\\|b'c d`"


def test_long_lines_are_broken_at_spaces_and_others_are_kept() -> None:
    text = "  kept as it is\n\n" + "word " * 30 + "\n" + "x" * 100
    lines = wrapped(text).splitlines()
    assert lines[:2] == ["  kept as it is", ""]
    assert max(map(len, lines)) == 90
    assert "".join(lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0.4, "0 s"), (59, "59 s"), (90, "1.5 min"), (7e4, "1,166.7 min")])
def test_times_have_a_unit(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
