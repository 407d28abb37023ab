import pytest

from echoself_action.markdown import code, indented


@pytest.mark.parametrize("text", ["```\n# out", "</code></pre>\n# out", "a\r# out"])
def test_no_text_ends_its_code_block(text: str) -> None:
    assert all(line.startswith("    ") for line in indented(text).splitlines())


def test_no_text_ends_its_table_cell() -> None:
    assert code("a|b`c\nd") == "`a\\|b'c d`"
