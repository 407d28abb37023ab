import pytest

from echoself_action.markdown import code, duration, indented, prose, wrapped


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("names_like_this of owner/name-1 (2.5 %)", "names_like_this of owner/name-1 (2.5 %)"),
        ("_a_ *b* `c` [d](e) <f> | ~g~ $h$ &i; \\", r"\_a\_ \*b\* \`c\` \[d\](e) \<f\> \| \~g\~ \$h\$ \&i; \\"),
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("12. a", r"12\. a"),
        ("--seed: x", r"\--seed: x"),
        ("-1.5 and 1.5", "-1.5 and 1.5"),
        ("a\n\n# b", "a # b"),
    ],
)
def test_prose_is_shown_as_it_is(text: str, shown: str) -> None:
    assert prose(text) == shown
