from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from echoself_action.checkpoint.metadata import Sample
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.tokenizer import Tokenizer
from echoself_action.corpus.tokens import Tokens
from echoself_action.evaluation.held_out import write_held_out
from echoself_action.evaluation.prompts import Ids, corpus_prompts, prompt_of

DOCUMENTS = [f"# Scene {number}\n\nTom walks along the river, and nobody sees him go." for number in range(20)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer("bytes", lambda: iter(()))


def stream(tokenizer: Tokenizer, *documents: str) -> Ids:
    return np.concatenate([[*tokenizer.encode_batch([text])[0], tokenizer.end_of_text_id] for text in documents])


def test_a_prompt_is_the_start_of_a_held_out_document_cut_at_a_word(tokens: Tokens) -> None:
    text = tokens.tokenizer.decode(tokens.val)
    documents = text.split(str(tokens.tokenizer.end_of_text))
    prompts = corpus_prompts([tokens.val], tokens.tokenizer, 256, count=3)
    assert len(set(prompts)) == 3
    for prompt in prompts:
        [rest] = {one.removeprefix(prompt)[:1] for one in documents if one.startswith(prompt)}
        assert rest in " \n"
        assert 3 <= len(prompt.split()) <= 8


def test_it_depends_on_the_seed_and_stays_the_same_when_other_documents_are_added(tokenizer: Tokenizer) -> None:
    before, more = stream(tokenizer, *DOCUMENTS), stream(tokenizer, *DOCUMENTS, "something else that is new in this corpus")
    assert corpus_prompts([before], tokenizer, 256) == corpus_prompts([before[:]], tokenizer, 256)
    assert len({corpus_prompts([before], tokenizer, 256, seed=seed)[0] for seed in range(9)}) > 1
    kept = [corpus_prompts([ids], tokenizer, 256, seed=seed) for seed in range(9) for ids in (before, more)]
    assert sum(one == two for one, two in zip(kept[::2], kept[1::2], strict=True)) > 5


def test_it_leaves_room_in_the_context(tokenizer: Tokenizer) -> None:
    [prompt] = corpus_prompts([stream(tokenizer, *DOCUMENTS)], tokenizer, 32)
    assert len(tokenizer.encode_batch([prompt])[0]) <= 16


def test_text_without_spaces_has_a_prompt_without_half_characters(tokenizer: Tokenizer) -> None:
    [prompt] = corpus_prompts([stream(tokenizer, "你好世界" * 50)], tokenizer, 64)
    assert ("你好世界" * 50).startswith(prompt)
    assert len(prompt) >= 5


def test_a_later_window_that_starts_within_a_document_gives_no_prompt_of_its_middle(tokenizer: Tokenizer) -> None:
    ids = stream(tokenizer, *DOCUMENTS[:2])
    prompts = corpus_prompts([ids[:40], ids[40:]], tokenizer, 256, count=9)
    assert all(prompt.startswith("# Scene") for prompt in prompts)


def test_a_prompt_that_is_not_allowed_or_not_in_the_vocabulary_is_not_taken(tokenizer: Tokenizer) -> None:
    ids = stream(tokenizer, *DOCUMENTS)
    first, second = corpus_prompts([ids], tokenizer, 256, count=2)
    assert corpus_prompts([ids], tokenizer, 256, is_allowed=lambda text: not text.startswith(first)) == [second]
    assert corpus_prompts([stream(tokenizer, "short")], tokenizer, 256) == []
    assert corpus_prompts([], tokenizer, 256) == []


def test_a_model_keeps_its_prompt_and_has_a_usual_one_if_no_text_of_its_corpus_is_at_hand(
    model_folder: ModelFolder, tokens: Tokens, tmp_path: Path
) -> None:
    stranger = replace(model_folder, metadata=None)
    (model_folder.path / "held_out.safetensors").unlink(missing_ok=True)
    assert prompt_of(stranger) == Sample(prompt="The")
    of_data = prompt_of(stranger, lambda: [tokens.val])
    assert of_data.from_corpus
    write_held_out(model_folder.path, [tokens.val[:2000]])
    assert prompt_of(stranger).from_corpus
    assert model_folder.metadata
    kept = Sample(prompt="Once upon", continuation=" a time", from_corpus=True)
    recorded = replace(model_folder, metadata=model_folder.metadata.model_copy(update={"sample": kept}))
    assert prompt_of(recorded) == kept
