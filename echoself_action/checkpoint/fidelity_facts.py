"""Echo fidelity, as training_metadata.json records it. evaluation/echo_fidelity.py measures it, and says what it is."""

from .facts import Facts
from .question_facts import Estimate


class FidelityScores(Facts):
    """The scores of `answers` answers, each from 0 to 1, with 95 % confidence intervals over prompts.

    `score` is the mean of `by_category`: 0.85 of it the share of the terms of the category in the answer, 0.15 its distinct
    triples of words (format nanecho-fidelity-v2). `by_dimension` is the share of the terms of each persona dimension, and
    `consistency` how little that varies between the answers of a category. `echo_score` counts 37 keywords, 8 dimensions and
    characters (compute_echo_score of jsonl_eval.py).
    """

    answers: int
    score: Estimate
    echo_score: Estimate
    by_category: dict[str, float]
    by_dimension: dict[str, float]
    consistency: float


class FidelityFacts(Facts):
    """Echo fidelity of a model: its greedy answers of up to `characters` characters, scored by two definitions of EchoSelf.

    `unprompted` and `prompted` are without and with the system prompt. `prompts` of the `all_prompts` were asked: fewer if the
    time was over. `held_out` are pieces of the held-out text of the lengths of the answers, scored as if they were answers.

    Whether the prompt matters: `other_category` is the score of the same unprompted answers with the terms of the other
    categories, and `difference` that of `unprompted` minus it. `empty_prompt` are `score` and `echo_score` of the answer to no
    prompt. `seconds` is the time of it all, `text` a digest of the held-out text.
    """

    text: str
    prompts: int
    all_prompts: int
    characters: int
    unprompted: FidelityScores
    prompted: FidelityScores
    held_out: FidelityScores | None = None
    other_category: float
    difference: Estimate
    empty_prompt: tuple[float, float]
    seconds: float
