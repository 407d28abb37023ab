"""A tokenizer as llama.cpp reads it from a GGUF file: the keys `tokenizer.ggml.*`.

All are of its model `gpt2`, byte-level BPE: a pre-tokenizer that llama.cpp knows by its name, a vocabulary, and merges.

- GPT-2's tokenizer and `bpe:<size>` are exactly that.
- `bytes` is the same without merges.
- A character vocabulary has a token for each character, and merges that join its bytes to it. A merge needs no tokens for its
  parts, and none can join bytes of two characters, because each begins with the first byte of a character. llama.cpp skips
  characters that the vocabulary lacks.

Sources: src/llama-vocab.cpp and conversion/base.py of github.com/ggml-org/llama.cpp.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...corpus.bpe import BYTE_OF_CHARACTER, CHARACTER_OF_BYTE
from ...corpus.tokenizer import OF_CHARACTERS, Tokenizer
from ...errors import CheckpointError

MODEL = "gpt2"
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # token types of llama.cpp
_NO_MERGES = ("\u2581 \u2581",)  # llama.cpp requires a merge; this one never applies, because its character is no byte's
# GPT-2's pattern, in llama.cpp since March 2025. With the name `gpt-2`, programs that call llama_detokenize, as node-llama-cpp
# does, also remove spaces before punctuation from what the model writes.
_GPT2_WORDS = "trillion"
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _LLAMA3.replace("{1,3}", "")
# The pre-tokenizers of llama.cpp that are the same as one of `tokenizers`, by their parts and `ignore_merges` of the model.
_PRE_TOKENIZERS: Mapping[tuple[tuple[str, ...], bool], str] = {
    (("words",), False): _GPT2_WORDS,
    (("digits", "words"), False): "smollm",
    ((_LLAMA3, "bytes"), False): "smaug-bpe",
    ((_LLAMA3, "bytes"), True): "llama-bpe",
    ((_QWEN2, "bytes"), False): "qwen2",
}
# The tokens at which llama.cpp ends a text because of their names, whichever is the end-of-text token.
_ENDS_BY_NAME = frozenset(
    [
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>"),
        *("<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>"),
        *("<eos>", "<turn|>", "<|tool_response>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[e~["),
        *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>"),
        *("<reponame>", "<|file_sep|>"),
    ]
)


@dataclass(frozen=True)
class GgufVocabulary:
    """`tokens` and `types` are by id, one for each row of the embeddings.

    llama.cpp ends a text at `end_id`, which it must have. `end_of_text` is the end-of-text token, None if the tokenizer has
    none: then `end_id` is a substitute.
    """

    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    end_id: int
    end_of_text: str | None
    notes: tuple[str, ...] = ()


def gguf_vocabulary(tokenizer: Tokenizer, size: int, folder: Path, substitute: Callable[[], int]) -> GgufVocabulary:
    """The vocabulary of `tokenizer`, for a model in `folder` with embeddings of `size` ids.

    `substitute` chooses the token at which a text ends if the tokenizer has no such token and each id has a meaning. Raises
    CheckpointError if llama.cpp can't represent the tokenizer: it would have other ids for a text.
    """
    parts = tokenizer.parts
    if tokenizer.name in OF_CHARACTERS:
        pre, tokens, merges = _GPT2_WORDS, _spelled(parts["model"]["vocab"]), list(_character_merges(parts["model"]["vocab"]))
    else:
        pre, tokens, merges = _byte_level(parts, tokenizer, folder)
    types = dict.fromkeys(tokens, NORMAL)
    for added in parts["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    names = set(tokens.values())
    for i in range(size):
        if i not in tokens:
            name = next(name for n in range(len(names) + 1) if (name := f"[PAD{i}]" + "_" * n) not in names)
            tokens[i], types[i] = name, UNUSED
            names.add(name)
    notes = []
    if tokenizer.name in OF_CHARACTERS:
        notes.append("llama.cpp skips characters that are not in the vocabulary, which is an error elsewhere")
    if tokenizer.end_of_text_id is not None:
        end_id = tokenizer.end_of_text_id
        types[end_id] = CONTROL
    elif UNUSED in types.values():
        end_id = next(i for i, kind in types.items() if kind == UNUSED)
    else:
        end_id = substitute()
        notes.append(
            "the vocabulary has no end-of-text token, which llama.cpp requires: a text ends there at "
            f"{tokenizer.decode([end_id])!r}, the token that this model predicts least often"
        )
    if others := sorted(names & _ENDS_BY_NAME - {tokens[end_id]}):
        notes.append(f"llama.cpp also ends a text at {', '.join(others)}, because of the names of these tokens")
    return GgufVocabulary(
        pre,
        tuple(tokens[i] for i in range(size)),
        tuple(types[i] for i in range(size)),
        tuple(merges) or _NO_MERGES,
        end_id,
        tokenizer.end_of_text,
        tuple(notes),
    )


def require_tokenizer(tokenizer: Tokenizer, size: int, folder: Path) -> None:
    """See `Format.require_tokenizer`."""
    gguf_vocabulary(tokenizer, size, folder, lambda: 0)


def _byte_level(parts: Mapping[str, Any], tokenizer: Tokenizer, folder: Path) -> tuple[str, dict[int, str], list[str]]:
    """The pre-tokenizer, the tokens by id and the merges of a byte-level BPE."""
    model = parts["model"]
    if model["type"] != "BPE":
        raise _refused(
            tokenizer, folder, f"is a {model['type']} model. Only byte-level BPE and vocabularies of characters can be written"
        )
    if parts["normalizer"]:
        raise _refused(tokenizer, folder, f"has a normalizer ({parts['normalizer']['type']}), which llama.cpp would not apply")
    for option in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise _refused(tokenizer, folder, f"has {option}, which llama.cpp does not know for byte-level BPE")
    vocabulary, ignores_merges = model["vocab"], bool(model.get("ignore_merges"))
    if not BYTE_OF_CHARACTER.keys() >= set().union(*vocabulary.keys() - {one["content"] for one in parts["added_tokens"]}):
        raise _refused(tokenizer, folder, "has tokens that are not spelled in bytes")
    if not all(byte in vocabulary for byte in CHARACTER_OF_BYTE):
        raise _refused(tokenizer, folder, "lacks tokens of single bytes, which llama.cpp handles in another way")
    for added in parts["added_tokens"]:
        if any(added[option] for option in ("single_word", "lstrip", "rstrip")):
            raise _refused(tokenizer, folder, f"has a token, {added['content']!r}, that also depends on the text around it")
    steps = tuple(_steps(parts["pre_tokenizer"]))
    merges = [" ".join(pair) for pair in model["merges"]]
    pre = _PRE_TOKENIZERS.get((steps, ignores_merges))
    if pre is None and steps == ("bytes",) and not merges:
        pre = _GPT2_WORDS  # where nothing is merged, words make no difference
    if pre is None:
        how = " with ignore_merges" if ignores_merges else ""
        shown = ", ".join(steps)[:200] or "none"
        raise _refused(tokenizer, folder, f"has a pre-tokenizer ({shown}){how} that is not known to be in llama.cpp")
    return pre, {i: token for token, i in vocabulary.items()}, merges


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> Iterator[str]:
    """The parts of a pre-tokenizer: `words` of GPT-2's pattern, `digits` one by one, `bytes`, or a pattern."""
    match (pre_tokenizer or {}).get("type"), pre_tokenizer or {}:
        case None, _:
            pass
        case "Sequence", found:
            for one in found["pretokenizers"]:
                yield from _steps(one)
        case "ByteLevel", {"add_prefix_space": False, "use_regex": regex}:
            yield "words" if regex else "bytes"
        case "Digits", {"individual_digits": True}:
            yield "digits"
        case "Split", {"pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            yield pattern
        case kind, _:
            yield str(kind)


def _spelled(vocabulary: Mapping[str, int]) -> dict[int, str]:
    return {i: "".join(_bytes_of(character)) for character, i in vocabulary.items()}


def _character_merges(vocabulary: Mapping[str, int]) -> Iterator[str]:
    """The merges that join the bytes of each character from the left, each once, in the order of the ids."""
    found = dict[str, None]()
    for character in vocabulary:
        spelled = _bytes_of(character)
        for end in range(1, len(spelled)):
            found[f"{''.join(spelled[:end])} {spelled[end]}"] = None
    return iter(found)


def _bytes_of(character: str) -> list[str]:
    return [CHARACTER_OF_BYTE[byte] for byte in character.encode()]


def _refused(tokenizer: Tokenizer, folder: Path, problem: str) -> CheckpointError:
    return CheckpointError(
        f"{folder} can't be exported for llama.cpp: its tokenizer {tokenizer.name} {problem}. No GGUF file was written.",
        "Leave gguf out of formats. For a new model, use a tokenizer that llama.cpp has: gpt2, bpe:<size> or bytes.",
    )
