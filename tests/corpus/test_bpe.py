import pytest
import tiktoken

from echoself_action.corpus.bpe import CHARACTER_OF_BYTE, byte_level_tokenizer, fast_encoder, recover_merges

# GPT-2's pattern splits on classes of characters; both libraries must know the same ones.
SOME_OF_EACH_BLOCK = [chr(code) for code in range(1, 0x110000, 61) if not 0xD800 <= code < 0xE000]
EDGES = [
    "",
    " ",
    "\n",
    " \n \t\r\n  x  \n\n",
    "don't we'll I'M 'S ''s",
    "naïve café — “quotes” …",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200b\u00a0\u3000\u2028x",
    "\x00\x01\x7f\x85",
    "١٢٣ ⅷ ² 一二三",
    "<|endoftext|>",
    " " * 100_000,
    "a" * 100_000,
    "-=" * 50_000,
]


@pytest.mark.usefixtures("gpt2_vocabulary")
def test_the_merges_of_gpt2_are_recovered_from_its_ranks() -> None:
    ranks = tiktoken.get_encoding("gpt2")._mergeable_ranks
    merges = list(recover_merges(ranks))
    assert len(merges) == 50_000
    # The first lines of OpenAI's vocab.bpe
    assert merges[:6] == [(b" ", b"t"), (b" ", b"a"), (b"h", b"e"), (b"i", b"n"), (b"r", b"e"), (b"o", b"n")]
    assert all(left + right in ranks for left, right in merges)


def test_ranks_that_are_not_a_bpe_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="can't be merged"):
        list(recover_merges({b"a": 0, b"b": 1, b"abab": 2}))


@pytest.mark.usefixtures("gpt2_vocabulary")
def test_the_fast_encoder_gives_the_ids_of_tokenizer_json(shakespeare: str) -> None:
    backend = byte_level_tokenizer(tiktoken.get_encoding("gpt2")._mergeable_ranks)
    backend.encode_special_tokens = True
    encode = fast_encoder(backend)
    assert encode is not None
    unicode = [f"a{c}b {c}1 {c}{c}  {c}!{c} '{c}s\n{c}" for c in SOME_OF_EACH_BLOCK]
    for text in [*EDGES, *unicode, shakespeare]:
        assert encode(text).tolist() == backend.encode(text, add_special_tokens=False).ids, text[:100]


def test_no_fast_encoder_if_ids_are_not_in_merge_order() -> None:
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"ab": 256, b"bc": 257}
    assert fast_encoder(byte_level_tokenizer(ranks)) is not None
    backend = byte_level_tokenizer(ranks)
    swapped = backend.to_str().replace('"ab":256', '"ab":257').replace('"bc":257', '"bc":256')
    assert swapped != backend.to_str()
    assert fast_encoder(type(backend).from_str(swapped)) is None


def test_the_alphabet_is_gpt2s() -> None:
    assert len(set(CHARACTER_OF_BYTE)) == 256
    assert CHARACTER_OF_BYTE[ord("A")] == "A"
    assert CHARACTER_OF_BYTE[ord(" ")] == "Ġ"
    assert CHARACTER_OF_BYTE[ord("\n")] == "Ċ"
