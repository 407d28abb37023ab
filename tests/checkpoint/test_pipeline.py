"""Stock transformers' text-generation pipeline on a model folder: prompts alone, in a batch, and longer than the context."""

from pathlib import Path
from typing import Any

import pytest

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.corpus.char_vocab import character_tokenizer
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.corpus.tokenizer import Tokenizer
from echoself_action.model.config import GPT2Config
from echoself_action.model.nanecho import NanEchoConfig
from echoself_action.training.init_or_resume import new_run
from echoself_action.training.run import Data

from ..conftest import SCENES, training_settings

PROMPTS = ["First", "Speak, speak, sir"]


def generator(folder: ModelFolder, **options: Any) -> Any:
    from transformers import pipeline

    return pipeline("text-generation", model=str(folder.path), device="cpu", **options)


def texts(found: list[Any]) -> list[str]:
    return [one["generated_text"] for group in found for one in (group if isinstance(group, list) else [group])]


@pytest.fixture
def nanecho_folder(tokens: Any, tmp_path: Path) -> ModelFolder:
    config = NanEchoConfig(vocab_size=257, block_size=32, n_layer=2, n_head=2, n_embd=16)
    return new_run(config, Data(tokens, ["**/*.md"]), training_settings()).snapshot(tmp_path / "nanecho", {}).write()


@pytest.mark.parametrize("architecture", ["gpt2", "nanecho"])
def test_a_batch_and_a_long_prompt_are_continued(architecture: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue("model_folder" if architecture == "gpt2" else "nanecho_folder")
    generate = generator(folder, **({"trust_remote_code": True} if architecture == "nanecho" else {}))
    assert (generate.tokenizer.pad_token, generate.tokenizer.padding_side) == ("<|endoftext|>", "left")
    greedy = {"do_sample": False, "return_full_text": False}
    alone = [text for prompt in PROMPTS for text in texts(generate(prompt, **greedy))]
    assert all(alone)
    assert texts(generate(PROMPTS, batch_size=2, **greedy)) == alone
    long = SCENES[0].read_text()
    assert all(texts(generate([PROMPTS[0], long], batch_size=2, handle_long_generation="hole", **greedy)))
    [last] = texts(generate(long[-16:], **greedy))
    assert texts(generate(long, handle_long_generation="hole", **greedy)) == [last]


def test_the_default_length_fits_the_context(model_folder: ModelFolder, recwarn: pytest.WarningsRecorder) -> None:
    generate = generator(model_folder)
    block_size = model_folder.config.block_size
    [found] = generate("x" * (block_size // 2), return_tensors=True, do_sample=False)
    assert block_size // 2 < len(found["generated_token_ids"]) <= block_size
    assert not [str(one.message) for one in recwarn if "length" in str(one.message)]


def test_without_a_token_that_is_not_text_prompts_are_continued_one_at_a_time(tmp_path: Path) -> None:
    characters = sorted({letter for scene in SCENES for letter in scene.read_text()})
    tokenizer = Tokenizer(character_tokenizer(characters), None, "characters")
    tokens = prepare_tokens(SCENES[:9], tokenizer, tmp_path / "cache", 0.2, "skip", print)
    config = GPT2Config(vocab_size=len(characters), block_size=32, n_layer=1, n_head=1, n_embd=16)
    run = new_run(config, Data(tokens, ["**/*.md"]), training_settings())
    generate = generator(run.snapshot(tmp_path / "model", {}).write())
    assert generate.tokenizer.pad_token is None
    assert all(texts(generate(PROMPTS, return_full_text=False)))
    assert all(texts(generate(SCENES[0].read_text(), handle_long_generation="hole", return_full_text=False)))
    with pytest.raises(ValueError, match="without pad_token"):
        generate(PROMPTS, batch_size=2)
