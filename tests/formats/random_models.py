"""Model folders with random weights, for tests of exports: of one or two layers, with the tokenizers that models have."""

from pathlib import Path
from typing import Any

import torch

from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.checkpoint.weights import write_model
from echoself_action.corpus.char_vocab import character_tokenizer
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.tokenizer import CHARACTERS, Tokenizer
from echoself_action.model.config import GPT2Config
from echoself_action.model.gpt2 import GPT2

from ..conftest import SCENES


def tokenizer_of(spec: str) -> Tokenizer:
    """The tokenizer of the input `tokenizer`, or `characters`, trained on the text of the tests."""
    texts = [scene.read_text(encoding="utf-8") for scene in SCENES]
    if spec == CHARACTERS:
        characters = sorted(set("".join(texts)))
        return Tokenizer(character_tokenizer(characters), None, CHARACTERS)
    return make_tokenizer(spec, lambda: iter(texts))


def write_random_model(folder: Path, tokenizer: str | Tokenizer = "bytes", seed: int = 1, **options: Any) -> ModelFolder:
    """A GPT-2 whose weights, biases and norms are random, and so large that every one of them changes the logits."""
    made = tokenizer_of(tokenizer) if isinstance(tokenizer, str) else tokenizer
    sizes: dict[str, Any] = {"vocab_size": made.vocab_size, "block_size": 64, "n_layer": 2, "n_head": 2, "n_embd": 32}
    config = GPT2Config(**(sizes | options))
    model = GPT2(config)
    model.initialise(0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    folder.mkdir(parents=True)
    write_model(folder, config, model.state_dict(), made.end_of_text_id)
    made.save(folder, config.block_size)
    return read_model_folder(folder)
