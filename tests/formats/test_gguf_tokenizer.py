"""Tokenizers in GGUF files: the same ids in llama.cpp for 1,000 texts, or a refusal before anything is written."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from echoself_action.corpus.bpe import CHARACTER_OF_BYTE, END_OF_TEXT
from echoself_action.corpus.char_vocab import character_tokenizer, id_tokenizer
from echoself_action.corpus.tokenizer import CHARACTERS, IDS, Tokenizer
from echoself_action.errors import CheckpointError
from echoself_action.formats.registry import Exported
from echoself_action.formats.runtimes.export_parity import Reference
from echoself_action.formats.runtimes.gguf_tokenizer import gguf_vocabulary
from echoself_action.formats.runtimes.runtime_formats import GGUF

from ..conftest import SCENES
from .random_models import tokenizer_of, write_random_model

F32 = "model-F32.gguf"
SIZES = {"n_layer": 1, "n_embd": 32}
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
PRE_TOKENIZERS = {  # as the tokenizer.json of other models have them
    "one digit a token": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), WORDS]),
    "Llama 3": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), BYTES]),
    "Qwen 2": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated"), BYTES]),
}


def trained(pre_tokenizer: Any, **options: Any) -> tokenizers.Tokenizer:
    """A byte-level BPE of 600 tokens, with a special token and one that is ordinary text."""
    backend = tokenizers.Tokenizer(models.BPE(**options))
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoders.ByteLevel()
    texts = [scene.read_text(encoding="utf-8") for scene in SCENES]
    texts += ["12345 1.5 it's IT'S\n\n  don't 日本語 русский e\u0301 \r\n naïve !?... "] * 3
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=CHARACTER_OF_BYTE, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([END_OF_TEXT])
    backend.add_tokens([AddedToken("<speaker>", normalized=False)])
    return backend


def assert_same_ids(folder: Path, tokenizer: str | Tokenizer, **options: Any) -> tuple[str, ...]:
    """Runs llama.cpp; returns the notes of the export."""
    model = write_random_model(folder / "model", tokenizer, **SIZES, **options)
    exported = GGUF.export(model, folder)
    (facts,) = GGUF.check(model, Exported(exported.path, "", files={F32: exported.files[F32]}))
    assert facts.texts == len(Reference(model).texts) > 300
    return exported.notes


def contents(folder: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(folder / "gguf" / F32).fields.items()}


@pytest.fixture(scope="module")
def gpt2(shared: Path) -> Iterator[Tokenizer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(shared / "tiktoken"))
        yield tokenizer_of("gpt2")


def test_gpt2_has_the_vocabulary_of_openai(gpt2: Tokenizer) -> None:
    """By the same code as `bpe:<size>`. benchmarks/exports.py compares its ids in llama.cpp: 50,000 merges take long."""
    vocabulary = gguf_vocabulary(gpt2, gpt2.vocab_size, Path("model"), pytest.fail)
    assert (len(vocabulary.tokens), len(vocabulary.merges), vocabulary.end_id) == (50257, 50000, 50256)
    assert vocabulary.merges[:2] == ("Ġ t", "Ġ a")
    assert vocabulary.merges[-1] == "Ġg azed"
    assert [vocabulary.tokens[i] for i in (0, 220, 50256)] == ["!", "Ġ", END_OF_TEXT]


def test_llama_cpps_own_converter_recognises_gpt2(gpt2: Tokenizer) -> None:
    """By a hash of the ids of this text: get_vocab_base_pre in its conversion/base.py."""
    text = (
        "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n"
        "\U0001f680 (normal) \U0001f636\u200d\U0001f32b\ufe0f (multiple emojis concatenated) \u2705 \U0001f999\U0001f999 "
        "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 "
        "\u1780\u17b6\u1793\u17cb\u178f\u17c2\u1796\u17b7\u179f\u17c1\u179f\u17a2\u17b6\u1785\U0001f601 "
        "?\u6211\u60f3\u5728apple\u5de5\u4f5c1314151\u5929\uff5e ------======= нещо на Български "
        "''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, "
        "'D you like some tea? We'Ve a'lL"
    )
    found = hashlib.sha256(str(gpt2.encode_batch([text])[0].tolist()).encode()).hexdigest()
    assert found == "3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454"


@pytest.mark.parametrize("name", ["bytes", "bpe:600"])
def test_own_tokenizers(tmp_path: Path, name: str) -> None:
    assert assert_same_ids(tmp_path, name) == ()
    keys = contents(tmp_path)
    size = len(keys["tokenizer.ggml.tokens"])
    assert keys["tokenizer.ggml.eos_token_id"] == keys["tokenizer.ggml.bos_token_id"] == size - 1
    assert (keys["tokenizer.ggml.tokens"][-1], keys["tokenizer.ggml.token_type"][-1]) == (END_OF_TEXT, 3)
    assert keys["tokenizer.ggml.add_bos_token"] is False


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_tokenizers_of_other_models(tmp_path: Path, name: str) -> None:
    assert assert_same_ids(tmp_path, Tokenizer(trained(PRE_TOKENIZERS[name]), END_OF_TEXT, "theirs")) == ()


def test_a_token_that_no_merge_gives(tmp_path: Path) -> None:
    """ignore_merges of Llama 3: a word that is a token stays one, even if its merges lead elsewhere."""
    parts = json.loads(trained(PRE_TOKENIZERS["Llama 3"], ignore_merges=True).to_str())
    last = max(parts["model"]["vocab"], key=len)
    parts["model"]["merges"] = [pair for pair in parts["model"]["merges"] if "".join(pair) != last]
    assert assert_same_ids(tmp_path, Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(parts)), END_OF_TEXT, "theirs")) == ()


CHARACTER_NOTES = (
    "llama.cpp skips characters that are not in the vocabulary, which is an error elsewhere",
    "the vocabulary has no end-of-text token, which llama.cpp requires: a text ends there at ",
)


def test_characters(tmp_path: Path) -> None:
    """Of one to four bytes, some with equal first bytes, control characters, and llama.cpp's own for a space."""
    characters = sorted(set("\n\t !',-.:;?aäàbcßdeéf gηλxyz0123日本語中文字符한국🙂🙃\u0301\u2581\x80ĠĊ\u0000"))
    random.Random(0).shuffle(characters)
    notes = assert_same_ids(tmp_path, Tokenizer(character_tokenizer(characters), None, CHARACTERS))
    assert [note.startswith(start) for note, start in zip(notes, CHARACTER_NOTES, strict=True)] == [True, True]


def test_the_text_of_a_character_model_ends_at_what_it_predicts_least(tmp_path: Path) -> None:
    """The last norm and the embeddings are such that one character has a lower logit than all others, after every text."""
    folder = write_random_model(tmp_path / "model", CHARACTERS, **SIZES)
    vocabulary = tokenizer_of(CHARACTERS)
    stored = load_file(folder.path / "model.safetensors")
    stored["transformer.ln_f.weight"][:] = 0.01
    stored["transformer.ln_f.bias"][:] = 1
    (rare,) = vocabulary.encode_batch(["q"])[0].tolist()
    stored["transformer.wte.weight"][rare] = -1
    save_file(stored, folder.path / "model.safetensors", {"format": "pt"})
    exported = GGUF.export(folder, tmp_path)
    assert contents(tmp_path)["tokenizer.ggml.eos_token_id"] == rare
    assert exported.notes[1] == CHARACTER_NOTES[1] + "'q', the token that this model predicts least often"
    assert "stop" not in exported.files["Modelfile"].read_text() + exported.files["params"].read_text()


def test_ids_without_a_meaning(tmp_path: Path) -> None:
    """A model may have more rows than its tokenizer has ids; where it has no end-of-text token, a text ends at the first."""
    tokenizer = Tokenizer(character_tokenizer([*"ab [PAD]4"]), None, CHARACTERS)
    padded = write_random_model(tmp_path / "padded", tokenizer, **SIZES, vocab_size=tokenizer.vocab_size + 2)
    exported = GGUF.export(padded, tmp_path)
    keys = contents(tmp_path)
    assert keys["tokenizer.ggml.tokens"][-2:] == ["[PAD9]", "[PAD10]"]
    assert keys["tokenizer.ggml.token_type"][-2:] == [5, 5]
    assert keys["tokenizer.ggml.eos_token_id"] == 9
    assert exported.notes == CHARACTER_NOTES[:1]


def changed(change: Callable[[dict[str, Any]], None]) -> Tokenizer:
    parts = json.loads(trained(WORDS).to_str())
    change(parts)
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(parts)), END_OF_TEXT, "theirs")


def wordpiece() -> Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "[SEP]": 1, "a": 2, "##a": 3}, unk_token="[UNK]"))
    return Tokenizer(backend, "[SEP]", "theirs")


def strips(parts: dict[str, Any]) -> None:
    parts["added_tokens"][1]["lstrip"] = True


REFUSED: dict[str, tuple[Callable[[], Tokenizer], str]] = {
    "WordPiece": (wordpiece, "is a WordPiece model. Only byte-level BPE and vocabularies of characters can be written"),
    "ids": (
        lambda: Tokenizer(id_tokenizer(9), None, IDS),
        "is a WordLevel model. Only byte-level BPE and vocabularies of characters can be written",
    ),
    "normalizer": (
        lambda: changed(lambda parts: parts.update(normalizer={"type": "NFC"})),
        "has a normalizer (NFC), which llama.cpp would not apply",
    ),
    "prefix space": (
        lambda: changed(lambda parts: parts["pre_tokenizer"].update(add_prefix_space=True)),
        "has a pre-tokenizer (ByteLevel) that is not known to be in llama.cpp",
    ),
    "no words": (
        lambda: changed(lambda parts: parts["pre_tokenizer"].update(use_regex=False)),
        "has a pre-tokenizer (bytes) that is not known to be in llama.cpp",
    ),
    "ignore_merges": (
        lambda: changed(lambda parts: parts["model"].update(ignore_merges=True)),
        "has a pre-tokenizer (words) with ignore_merges that is not known to be in llama.cpp",
    ),
    "stripped space": (lambda: changed(strips), "has a token, '<speaker>', that also depends on the text around it"),
    "a byte is missing": (
        lambda: changed(lambda parts: parts["model"]["vocab"].update({"é!": parts["model"]["vocab"].pop("ÿ")})),
        "lacks tokens of single bytes, which llama.cpp handles in another way",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_tokenizer_that_llama_cpp_lacks_is_refused(tmp_path: Path, case: str) -> None:
    make, reason = REFUSED[case]
    model = write_random_model(tmp_path / "model", make(), **SIZES)
    with pytest.raises(CheckpointError) as refused:
        GGUF.export(model, tmp_path / "out")
    assert str(refused.value).startswith(f"{model.path} can't be exported for llama.cpp: its tokenizer ")
    assert f" {reason}. No GGUF file was written." in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_names_at_which_llama_cpp_ends_a_text(tmp_path: Path) -> None:
    backend = trained(WORDS)
    backend.add_special_tokens(["<|im_end|>"])
    notes = GGUF.export(
        write_random_model(tmp_path / "model", Tokenizer(backend, END_OF_TEXT, "theirs"), **SIZES), tmp_path
    ).notes
    assert notes == ("llama.cpp also ends a text at <|im_end|>, because of the names of these tokens",)
