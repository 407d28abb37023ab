"""What cards and summaries claim about the inside of a model: nothing without a figure, no effect without evidence."""

import pytest

from echoself_action.checkpoint.introspection_facts import AblationFacts, IntrospectionFacts
from echoself_action.hub.cards.introspection_text import ablation_rows, attention_text, card_section, effect, summary_text

FACTS = IntrospectionFacts(
    held_out="0",
    windows=64,
    tokens=4096,
    bits_per_byte=2.5,
    entropy=((1.0, 2.0), (3.0, 4.0)),
    uniform_entropy=4.0,
    ablations=(
        AblationFacts(path="recursive_reasoning", change=0.02, low=-0.001, high=0.04, logit_share=0.1),
        AblationFacts(path="persona_dimensions", change=0.2, low=0.1, high=0.3, logit_share=0.5),
        AblationFacts(path="persona_dimensions.a_b", change=-0.2, low=-0.3, high=-0.1, logit_share=0.25),
    ),
    ablation_windows=64,
    seconds=3,
)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.1, 0.1, "has no measurable effect"),
        (0.0, 0.2, "has no measurable effect"),
        (0.1, 0.2, "lowers the loss"),
        (-0.2, -0.1, "raises the loss"),
        (None, None, "is not judged (fewer than 8 windows)"),
    ],
)
def test_an_effect_is_claimed_only_if_its_interval_excludes_zero(low: float | None, high: float | None, expected: str) -> None:
    middle = ((low or 0) + (high or 0)) / 2
    assert effect(AblationFacts(path="p", change=middle, low=low, high=high, logit_share=0.1)) == expected


def test_the_texts_have_the_figures() -> None:
    assert "mean entropy of 2.50 bits, by head 1.00 to 4.00" in attention_text(FACTS)
    assert "effectively to 5.7 of the 16.0 tokens" in attention_text(FACTS)
    assert ablation_rows(FACTS)[2] == ("persona dimension a_b", "-0.2000", "-0.3000 to -0.1000", "25.0%", "raises the loss")
    summary = summary_text(FACTS)
    assert "recursive reasoning +0.0200 (no measurable effect), persona dimensions, all +0.2000." in summary
    assert "a_b" not in summary


def test_the_card_claims_nothing_that_was_not_measured() -> None:
    assert card_section(None) == ""
    of_gpt2 = card_section(FACTS.model_copy(update={"ablations": ()}))
    assert "mean entropy" in of_gpt2
    assert not {"switched off", "threshold", "recursi", "connections"} & set(of_gpt2.split())
    card = card_section(FACTS)
    assert "| recursive reasoning | +0.0200 | -0.0010 to +0.0400 | 10.0% | has no measurable effect |" in card.replace(
        "\\_", "_"
    )
    assert "adaptive attention" not in card


def test_the_measured_text_says_when_time_ran_out() -> None:
    cut = FACTS.model_copy(update={"ablation_windows": 20})
    assert "64 windows of held-out text with 4,096 tokens, the ablations on 20, on which" in card_section(cut)
