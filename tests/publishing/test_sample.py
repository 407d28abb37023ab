from dataclasses import replace

import numpy as np

from echoself_action.checkpoint.metadata import Sample, read_metadata
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.corpus.tokens import Tokens
from echoself_action.evaluation.prompts import FALLBACK, Ids
from echoself_action.publishing.sample import with_sample

SECRET = "hf_" + "abcdefghijklmnopqrstuvwxyzabcdefgh"


def held_out(tokens: Tokens, text: str) -> list[Ids]:
    return [np.array([*tokens.tokenizer.encode_batch([text])[0], tokens.tokenizer.end_of_text_id])]


def test_a_sample_is_recorded_and_another_job_shows_the_same_without_computing_it(
    model_folder: ModelFolder, tokens: Tokens
) -> None:
    folder, sample = with_sample(model_folder, lambda: [tokens.val])
    assert sample.from_corpus
    assert sample.continuation
    assert folder.metadata
    assert folder.metadata.sample == sample
    assert read_metadata(folder.path) == folder.metadata
    (folder.path / "model.safetensors").unlink()  # what a sample is computed from
    assert with_sample(folder) == (folder, sample)


def test_a_sample_that_is_not_to_be_kept_is_not_recorded(model_folder: ModelFolder, tokens: Tokens) -> None:
    folder, sample = with_sample(model_folder, lambda: [tokens.val], keep=False)
    assert folder == model_folder
    assert sample.continuation


def test_a_prompt_has_no_secret(model_folder: ModelFolder, tokens: Tokens) -> None:
    stranger = replace(model_folder, metadata=None)
    (model_folder.path / "held_out.safetensors").unlink(missing_ok=True)
    _, sample = with_sample(stranger, lambda: held_out(tokens, f"A {SECRET} for you and for me, too"))
    assert (sample.prompt, sample.from_corpus) == (FALLBACK, False)
    _, sample = with_sample(stranger, lambda: held_out(tokens, "A word for you and for me, too"))
    assert sample.prompt.startswith("A word for")


def test_a_usual_prompt_gives_way_to_one_of_the_corpus(model_folder: ModelFolder, tokens: Tokens) -> None:
    (model_folder.path / "held_out.safetensors").unlink(missing_ok=True)
    folder, usual = with_sample(model_folder)
    assert usual == Sample(prompt=FALLBACK, continuation=usual.continuation)
    folder, sample = with_sample(folder, lambda: [tokens.val])
    assert sample.from_corpus
    assert folder.metadata
    assert folder.metadata.sample == sample
