import pytest
import yaml

from echoself_action.hub.cards.sections import SECTIONS, filled, has_sections, section, with_front_matter, wrong_marks

MINE = "# Mine\n\nBefore.\n\n<!-- echoself:results -->\nold\n<!-- /echoself:results -->\n\nAfter. <!-- a comment -->\n"


def test_only_text_between_the_markers_is_replaced() -> None:
    text = filled(MINE, {"results": "new \\1", "use": "unused"})
    assert text == MINE.replace("old", "new \\1")
    assert filled(text, {"results": "new \\1"}) == text


@pytest.mark.parametrize("text", ["# Mine\n", "<!-- echoself:use -->\nno end", "<!-- /echoself:use --><!-- echoself:use -->"])
def test_text_without_a_complete_section_is_kept(text: str) -> None:
    assert not has_sections(text)
    assert filled(text, {"use": "x"}) == text


def test_unknown_markers_are_named() -> None:
    assert wrong_marks("".join(section(name, "x") for name in SECTIONS)) == []
    assert wrong_marks(MINE + "<!-- echoself:use -->") == ["<!-- echoself:use -->"]
    assert wrong_marks(section("resluts", "x")) == ["<!-- echoself:resluts -->", "<!-- /echoself:resluts -->"]


def test_the_users_front_matter_is_completed_and_its_results_are_replaced() -> None:
    theirs = "---\nlicense: mit\ntags: [mine]\nextra: 1\nmodel-index: []\n---\n# Mine\n"
    ours = {"license": "apache-2.0", "library_name": "transformers", "tags": ["gpt2"], "model-index": [{"name": "a"}]}
    text = with_front_matter(theirs, ours, ("model-index",))
    _, front, rest = text.split("---\n")
    assert rest == "# Mine\n"
    assert yaml.safe_load(front) == {
        "license": "mit",
        "tags": ["mine", "gpt2"],
        "extra": 1,
        "library_name": "transformers",
        "model-index": [{"name": "a"}],
    }
    assert with_front_matter(text, ours, ("model-index",)) == text


def test_inputs_override_the_front_matter() -> None:
    text = with_front_matter("---\nlicense: mit\n---\nx", {"license": "apache-2.0"}, ("license",))
    assert yaml.safe_load(text.split("---")[1]) == {"license": "apache-2.0"}


@pytest.mark.parametrize("text", ["---\n: [\n---\nx", "---\n- a list\n---\nx"])
def test_invalid_front_matter_is_kept(text: str) -> None:
    assert with_front_matter(text, {"license": "mit"}, ()) == text


def test_unchanged_front_matter_is_kept_byte_for_byte() -> None:
    text = "---\n# a comment\nlicense:   mit\n---\nx"
    assert with_front_matter(text, {"license": "mit"}, ()) == text
