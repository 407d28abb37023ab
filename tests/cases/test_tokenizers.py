"""Tokenizers that lose text, change it or add to it: each is used as it is meant, or refused, or what it does is reported."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel

from echoself_action.corpus.findings import Finding
from echoself_action.corpus.make_tokenizer import load_tokenizer, make_tokenizer
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.corpus.tokenizer import Tokenizer
from echoself_action.corpus.tokens import Tokens
from echoself_action.errors import EchoselfError, InputError, TokenizerError
from echoself_action.hub.client import open_hub

from ..conftest import SMALL, Cli

END = "<|endoftext|>"
DROPPED = "characters that the tokenizer drops"
UNKNOWN = "characters that the tokenizer has no token for"
SPACE = "texts whose white space the tokenizer changes"
FORM = "texts whose case or Unicode form the tokenizer changes"
ACCENTS = "accents or vowel signs that the tokenizer removes"
ADDED = "characters that the tokenizer adds to the decoded text"
ENGLISH = [
    f"The quick brown fox number {i} jumps over {i * 7} lazy dogs, and never comes back to the grey sea.\n" for i in range(60)
]
FRENCH = "Le café fermé où l'élève a été reçu à côté du théâtre, déjà très âgé.\n"
CZECH = "Příliš žluťoučký kůň úpěl ďábelské ódy, řekl český učitel žákům.\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたか見当がつかぬ。\n"
UNICODE = "Café 日本 🙂 the QUICK brown zebra №5 ﬁne\n   indented\ttab  two\n"
SPECIAL = f"Start </s> middle {END} [SEP] <|end_of_text|> <END> <unk> ending words\n"


def trained(
    model: models.Model,
    trainer: trainers.Trainer,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
    decoder: decoders.Decoder | None = None,
    normalizer: normalizers.Normalizer | None = None,
) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer
    if decoder:
        backend.decoder = decoder
    if normalizer:
        backend.normalizer = normalizer
    backend.train_from_iterator(ENGLISH, trainer)
    return backend


def character_bpe() -> tokenizers.Tokenizer:
    """Without a token for unknown characters, so it drops them."""
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=[END], show_progress=False)
    return trained(models.BPE(), trainer, pre_tokenizers.Metaspace(), decoders.Metaspace())


def byte_bpe(normalizer: normalizers.Normalizer | None = None, *, prefix: bool = False) -> tokenizers.Tokenizer:
    """Byte-level: it knows every text."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    level = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    return trained(models.BPE(), trainer, level, decoders.ByteLevel(), normalizer)


def word_level(unknown: str | None = "<unk>", special: Iterable[str] = ("<unk>", "</s>")) -> tokenizers.Tokenizer:
    trainer = trainers.WordLevelTrainer(special_tokens=list(special), show_progress=False)
    return trained(models.WordLevel(unk_token=unknown), trainer, pre_tokenizers.WhitespaceSplit())


def word_piece(normalizer: normalizers.Normalizer | None = None) -> tokenizers.Tokenizer:
    """BERT's."""
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[SEP]"], show_progress=False)
    model = models.WordPiece(unk_token="[UNK]")
    return trained(model, trainer, pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(), normalizer)


def unigram() -> tokenizers.Tokenizer:
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["</s>", "<unk>"], unk_token="<unk>", show_progress=False)
    return trained(models.Unigram(), trainer, pre_tokenizers.Metaspace(), decoders.Metaspace())


def sentencepiece() -> tokenizers.Tokenizer:
    """As Llama's: it is a BPE of characters, and falls back to bytes."""
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    learned = trained(models.BPE(), trainer, pre_tokenizers.Metaspace())
    parts = json.loads(learned.to_str())
    parts["added_tokens"] = [added for added in parts["added_tokens"] if not added["content"].startswith("<0x")]
    parts["model"] |= {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    backend = tokenizers.Tokenizer.from_str(json.dumps(parts | {"pre_tokenizer": None}))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


def saved(backend: tokenizers.Tokenizer, folder: Path, end_of_text: str | None = END) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": end_of_text}))
    return folder / "tokenizer.json"


@dataclass
class Corpus:
    """What a corpus of files became."""

    tokens: Tokens
    texts: list[str]
    findings: list[Finding]


Prepare = Callable[..., Corpus]


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Tokenizes texts, one file for each."""

    def run(tokenizer: Tokenizer | Path, texts: Iterable[str], val_fraction: float = 0.1) -> Corpus:
        tokenizer = tokenizer if isinstance(tokenizer, Tokenizer) else make_tokenizer(str(tokenizer), lambda: iter(()))
        files = []
        for i, text in enumerate(texts):
            files.append(tmp_path / f"text{i}.txt")
            files[-1].write_text(text, encoding="utf-8")
        findings: list[Finding] = []
        tokens = prepare_tokens(files, tokenizer, tmp_path / "cache", val_fraction, "fail", findings.append)
        return Corpus(tokens, list(documents(tokens)), findings)

    return run


def documents(tokens: Tokens) -> Iterator[str]:
    """Each, decoded."""
    for ids in (tokens.train, tokens.val):
        found: list[int] = []
        for i in ids.tolist():
            if i == tokens.tokenizer.end_of_text_id:
                yield tokens.tokenizer.decode(found)
                found = []
            else:
                found.append(i)
        assert not found


# --- the reported cases ---


@pytest.mark.parametrize(
    ("name", "odd", "comes_back", "warning"),
    [
        (
            "charbpe_nounk",
            "c_unicode",
            "Caf   the QC brown",
            "characters that the tokenizer drops (11): 0.13% of the text, by charbpe_nounk/tokenizer.json: 'Café 日本",
        ),
        ("charbpe_nounk", "c_special", "Start s middle endoft", DROPPED),
        ("wordlevel", "c_unicode", "<unk> <unk> <unk> the <unk> brown", UNKNOWN),
        ("wordlevel", "c_special", "<unk> <unk> <unk> <unk>", UNKNOWN),
        ("unigram", "c_unicode", "Caf<unk> <unk> <unk> the Q<unk>", UNKNOWN),
        ("unigram", "c_special", "Start </s> middle <|endoftext|>", UNKNOWN),
    ],
)
def test_a_reported_tokenizer_reports_what_it_loses(
    cases: Path, tmp_path: Path, name: str, odd: str, comes_back: str, warning: str
) -> None:
    tokenizer = make_tokenizer(str(cases / "corpus/tok" / name / "tokenizer.json"), lambda: iter(()))
    files = [*sorted((cases / "corpus/filler").glob("*.md")), cases / "corpus" / odd / "odd.txt"]
    findings: list[Finding] = []
    tokens = prepare_tokens(files, tokenizer, tmp_path, 0.1, "fail", findings.append)
    found = list(documents(tokens))
    assert len(found) == len(files)  # no document ends in its middle
    assert any(text.startswith(comes_back) for text in found)
    assert warning in str(findings[0])
    assert f"({files[-1]})" in findings[0].example
    again: list[Finding] = []
    assert prepare_tokens(files, tokenizer, tmp_path, 0.1, "fail", again.append).reused
    assert again == findings


@pytest.mark.parametrize("odd", ["c_unicode", "c_special"])
@pytest.mark.parametrize("spec", ["gpt2", "bpe:300", "bytes"])
def test_our_own_tokenizers_keep_every_text(cases: Path, prepare: Prepare, spec: str, odd: str) -> None:
    texts = [*ENGLISH, (cases / "corpus" / odd / "odd.txt").read_text(encoding="utf-8")]
    found = prepare(make_tokenizer(spec, lambda: iter(texts)), texts)
    assert sorted(found.texts) == sorted(texts)
    assert not found.findings


# --- further ones: what is refused ---


def few_bytes() -> tokenizers.Tokenizer:
    """Byte-level, but trained without an alphabet: it knows the bytes of its training text only."""
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=[END], show_progress=False)
    return trained(models.BPE(), trainer, pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel())


def without_digits() -> tokenizers.Tokenizer:
    return byte_bpe(normalizers.Replace(tokenizers.Regex(r"\d"), ""))


REFUSED: dict[str, tuple[Callable[[], tokenizers.Tokenizer], str | None, str, str]] = {
    "drops Japanese": (character_bpe, END, JAPANESE * 20, "drops .* of the text without a token .*'吾輩は猫である"),
    "bytes that it does not know": (few_bytes, END, JAPANESE * 20, "drops .* of the text without a token"),
    "removes numbers": (without_digits, END, "In 1848 and 1849.\n" * 30, "drops .* of the text without a token"),
    "no word of it is known": (word_level, "</s>", JAPANESE * 20, "has no tokens for .* of the text"),
    "no piece of it is known": (unigram, "</s>", JAPANESE * 20, "has no tokens for .* of the text"),
    "accents of Czech": (
        lambda: byte_bpe(normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
        END, CZECH * 200, "removes .* of the text as accents or vowel signs",
    ),
    "unknown words end the document": (
        lambda: word_level(END, [END]), END, UNICODE, "gives the end-of-text id 0 for ordinary text.*'<.endoftext.>'",
    ),
    "unknown words without a token for them": (lambda: word_level("<unk>", ["</s>"]), "</s>", UNICODE, "can't encode 'Café'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_tokenizer_that_loses_text_is_refused(tmp_path: Path, prepare: Prepare, case: str) -> None:
    make, end_of_text, text, message = REFUSED[case]
    tokenizer = saved(make(), tmp_path / "tok", end_of_text)
    with pytest.raises(TokenizerError, match=message) as caught:
        prepare(tokenizer, [*ENGLISH, text])
    assert caught.value.exit_code == 3
    assert "tok/tokenizer.json" in caught.value.message
    assert "gpt2" in caught.value.hint


def with_parts(backend: tokenizers.Tokenizer, **changes: Any) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(json.loads(backend.to_str()) | changes))


def without_decoder() -> tokenizers.Tokenizer:
    return with_parts(byte_bpe(), decoder=None)


def with_word_ends() -> tokenizers.Tokenizer:
    """GPT's first form, whose decoder was lost."""
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", END], end_of_word_suffix="</w>", show_progress=False)
    model = models.BPE(unk_token="<unk>", end_of_word_suffix="</w>")
    return trained(model, trainer, pre_tokenizers.BertPreTokenizer())


@pytest.mark.parametrize("make", [without_decoder, with_word_ends])
def test_a_tokenizer_that_decodes_to_other_text_is_refused(
    tmp_path: Path, prepare: Prepare, make: Callable[[], tokenizers.Tokenizer]
) -> None:
    with pytest.raises(TokenizerError, match=r"decodes the text with .* characters that are not in it .*may lack a decoder"):
        prepare(saved(make(), tmp_path / "tok"), ENGLISH)


def test_ids_far_above_the_number_of_tokens_are_refused(tmp_path: Path, prepare: Prepare) -> None:
    path = saved(word_level(), tmp_path / "tok", "</s>")
    parts = json.loads(path.read_text())
    parts["model"]["vocab"]["distant"] = 4_000_000_000  # `tokenizers` would write that for half a minute
    path.write_text(json.dumps(parts))
    with pytest.raises(EchoselfError, match=r"has ids up to 4,000,000,000 for only \d+ tokens"):
        prepare(path, ENGLISH)


# --- what is used, and reported ---

REPORTED: dict[str, tuple[Callable[[], tokenizers.Tokenizer], str | None, str, list[str]]] = {
    "a little is dropped": (character_bpe, END, UNICODE, [DROPPED]),
    "bytes that it does not know": (few_bytes, END, UNICODE, [DROPPED]),
    "spaces around Chinese": (
        lambda: with_parts(sentencepiece(), normalizer={
            "type": "BertNormalizer", "clean_text": False, "handle_chinese_chars": True, "strip_accents": False,
            "lowercase": False,
        }),
        "</s>", "名前はまだ無い。\n", [SPACE],
    ),
    "a little is unknown": (word_level, "</s>", UNICODE, [UNKNOWN, SPACE]),
    "lower case": (
        lambda: byte_bpe(normalizers.Lowercase()), END, UNICODE, [FORM],
    ),
    "NFKC": (lambda: byte_bpe(normalizers.NFKC()), END, UNICODE, [FORM]),
    "NFD": (lambda: byte_bpe(normalizers.NFD()), END, UNICODE, [FORM]),
    "accents of French": (
        lambda: byte_bpe(normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
        END, FRENCH, [ACCENTS],
    ),
    "replaced quotes": (
        lambda: byte_bpe(normalizers.Replace("``", '"')), END, "He said ``never'' and left.\n",
        [DROPPED, ADDED],
    ),
    "stripped ends": (lambda: byte_bpe(normalizers.Strip()), END, UNICODE, [SPACE]),
    "a space is put before each text": (lambda: byte_bpe(prefix=True), END, UNICODE, [SPACE]),
    "BERT's, which joins punctuation": (
        lambda: word_piece(normalizers.BertNormalizer(lowercase=True)), "[SEP]", "hello , world . it 's n't\n",
        [UNKNOWN, FORM],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REPORTED)
def test_a_tokenizer_that_changes_text_reports_it_with_an_example(tmp_path: Path, prepare: Prepare, case: str) -> None:
    make, end_of_text, text, kinds = REPORTED[case]
    found = prepare(saved(make(), tmp_path / "tok", end_of_text), [*ENGLISH, text])
    assert [finding.kind for finding in found.findings if finding.kind in kinds] == kinds, found.findings
    assert len(found.texts) == len(ENGLISH) + 1
    for finding in found.findings:
        assert "by tok/tokenizer.json: " in finding.example
        assert " comes back as " in finding.example
        assert finding.example.endswith(".txt)")


# --- what is used as if the file did not say it ---


def marked_as_text() -> tokenizers.Tokenizer:
    """Its end of text is an added token, and not a special one: it would be found in a text."""
    backend = byte_bpe()
    parts = json.loads(backend.to_str())
    for added in parts["added_tokens"]:
        added["special"] = False
    return with_parts(backend, **parts)


def whole_words() -> tokenizers.Tokenizer:
    """Takes a word of the vocabulary before any merge, as Llama 3 does."""
    backend = byte_bpe()
    parts = json.loads(backend.to_str())
    parts["model"]["ignore_merges"] = True
    parts["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": r"\S+|\s+"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ],
    }
    return with_parts(backend, **parts)


def cut_and_padded() -> tokenizers.Tokenizer:
    backend = byte_bpe(normalizers.NFC())
    backend.enable_truncation(16)
    backend.enable_padding(pad_id=1, pad_token="!", length=64)
    return backend


def with_begin_and_end() -> tokenizers.Tokenizer:
    backend = byte_bpe(normalizers.NFC())
    end = backend.token_to_id(END)
    backend.post_processor = processors.TemplateProcessing(single=f"{END} $A {END}", special_tokens=[(END, end)])
    return backend


def with_chat_tokens() -> tokenizers.Tokenizer:
    backend = byte_bpe()
    backend.add_special_tokens(["<|im_start|>"])
    backend.add_tokens([AddedToken("<|im_end|>", normalized=False)])
    return backend


EXACT: dict[str, tuple[Callable[[], tokenizers.Tokenizer], str | None]] = {
    "byte-level": (byte_bpe, END),
    "end of text is not special": (marked_as_text, END),
    "whole words first": (whole_words, END),
    "cut at 16 tokens and padded": (cut_and_padded, END),
    "adds tokens to each text": (with_begin_and_end, END),
    "chat tokens, special and not": (with_chat_tokens, END),
    "Llama's": (sentencepiece, "</s>"),
}


@pytest.mark.parametrize("case", EXACT)
def test_a_tokenizer_that_can_keep_every_text_does(tmp_path: Path, prepare: Prepare, case: str) -> None:
    make, end_of_text = EXACT[case]
    odd = [UNICODE, SPECIAL, JAPANESE, f"<s> a b</s>{END}<|im_start|>user\nhello<|im_end|>\n", "word " * 500 + "\n"]
    found = prepare(saved(make(), tmp_path / "tok", end_of_text), [*ENGLISH, *odd])
    assert sorted(found.texts) == sorted([*ENGLISH, *odd])
    assert not found.findings


@pytest.mark.parametrize(("make", "end_of_text"), [(sentencepiece, "</s>"), (lambda: byte_bpe(prefix=True), END)])
def test_a_text_that_is_longer_than_a_call_gets_no_space_in_its_middle(
    tmp_path: Path, prepare: Prepare, make: Callable[[], tokenizers.Tokenizer], end_of_text: str
) -> None:
    lines = (f"Line {i} of a long text has words that are many and long.\n" + "\n" * (i % 7 == 0) for i in range(40_000))
    text = "".join(lines)
    found = prepare(saved(make(), tmp_path / "tok", end_of_text), [text], val_fraction=0.002)
    assert max(map(len, found.texts)) > 1_000_000
    assert all(part.removeprefix(" ") in text for part in found.texts)


@pytest.mark.parametrize(("make", "end_of_text"), [(unigram, "</s>"), (word_level, "</s>"), (word_piece, "[SEP]")])
def test_the_name_of_the_end_in_a_text_is_ordinary_text(
    tmp_path: Path, make: Callable[[], tokenizers.Tokenizer], end_of_text: str
) -> None:
    tokenizer = make_tokenizer(str(saved(make(), tmp_path, end_of_text)), lambda: iter(()))
    stock = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    stock.encode_special_tokens = True
    plain = "The quick brown fox"
    assert tokenizer.encode_batch([plain])[0].tolist() == stock.encode(plain, add_special_tokens=False).ids
    for text in (f"The {end_of_text} fox", end_of_text, f"{end_of_text} {end_of_text}"):
        assert tokenizer.end_of_text_id not in tokenizer.encode_batch([text])[0]
    tokenizer.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again.digest == tokenizer.digest
    assert again.decode([again.end_of_text_id or 0]) == end_of_text


def test_ids_without_a_token_are_reported(tmp_path: Path, prepare: Prepare) -> None:
    parts = json.loads(word_level().to_str())
    parts["model"]["vocab"]["distant"] = len(parts["model"]["vocab"]) + 3
    found = prepare(saved(with_parts(word_level(), **parts), tmp_path / "tok", "</s>"), ENGLISH)
    assert ("ids without a token", 3) in [(finding.kind, finding.count) for finding in found.findings]


# --- names ---


def test_a_tokenizer_is_a_file_or_a_folder_and_keeps_the_name_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(unigram(), Path("tok/unigram"), "</s>")
    names = {"tok/unigram": "tok/unigram", "tok/unigram/tokenizer.json": "tok/unigram/tokenizer.json"}
    names |= {str(tmp_path / "tok/unigram"): "tok/unigram"}  # not where it is on this machine
    made = {spec: make_tokenizer(spec, lambda: iter(())) for spec in names}
    assert {spec: tokenizer.name for spec, tokenizer in made.items()} == names
    assert len({tokenizer.digest for tokenizer in made.values()}) == 1


def test_the_name_stays_in_the_model_and_in_later_runs(
    workspace: Path, echoself: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(byte_bpe(normalizers.NFC()), workspace / "tok/mine")
    command = f"train --data docs/*.md {SMALL}"
    for further, given in (
        ("--tokenizer tok/mine --max-iters 1", "new"),
        ("--max-iters 2", "own"),
        ("--tokenizer tok/mine --max-iters 3", "same"),
    ):
        outputs = echoself(f"{command} {further}")
        facts = json.loads((Path(outputs["checkpoint"]) / "training_metadata.json").read_text())
        assert facts["tokenizer"]["name"] == "tok/mine", given
        assert "tokenizer tok/mine: " in capsys.readouterr().out
    saved(byte_bpe(), workspace / "tok/mine")
    echoself(f"{command} --tokenizer tok/mine --max-iters 4", code=2)
    assert "tokenizer: tok/mine is not the tokenizer of" in capsys.readouterr().err


def test_the_tokenizer_of_a_pretrained_model_has_the_name_of_that_model(workspace: Path, echoself: Cli) -> None:
    folder = workspace.parent / "my-gpt2"
    backend = sentencepiece()
    sizes = {"vocab_size": backend.get_vocab_size(), "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    GPT2LMHeadModel(GPT2Config(**sizes, eos_token_id=2, bos_token_id=2)).save_pretrained(folder)
    saved(backend, folder, "</s>")
    command = f"train --data docs/*.md {SMALL.replace('--n-layer 2 --n-head 2 --n-embd 16 --block-size 32', '')}"
    for further in (f"--init-from {folder} --max-iters 1", "--max-iters 2"):
        outputs = echoself(f"{command} {further}")
        facts = json.loads((Path(outputs["checkpoint"]) / "training_metadata.json").read_text())
        assert facts["tokenizer"]["name"] == "my-gpt2"


def test_a_refused_tokenizer_ends_the_run_before_training(
    workspace: Path, echoself: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(character_bpe(), workspace / "tok")
    (workspace / "docs/japanese.md").write_text(JAPANESE * 2000)
    echoself(f"train --data docs/*.md --tokenizer ./tok {SMALL}", code=3)
    error = capsys.readouterr().err
    assert "The tokenizer ./tok drops" in error
    assert "docs/japanese.md" in error
    assert not list(workspace.glob("*/checkpoint*"))


def test_a_tokenizer_is_fetched_from_a_repo_by_name(workspace: Path, echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    backend = byte_bpe(normalizers.NFC())
    backend.enable_truncation(512)
    folder = workspace.parent / "other"
    saved(backend, folder)
    (folder / "config.json").write_text("{}")
    with open_hub("hub", None, lambda _: None) as hub:
        hub.api.create_repo("else/tok")
        hub.api.create_repo("else/none")
        hub.api.upload_folder(repo_id="else/tok", folder_path=folder)
        hub.api.upload_file(repo_id="else/none", path_or_fileobj=b"{}", path_in_repo="config.json")
    command = f"train --hub hub --data docs/*.md {SMALL}"
    for steps in (1, 2):
        outputs = echoself(f"{command} --tokenizer else/tok --max-iters {steps}")
        facts = json.loads((Path(outputs["checkpoint"]) / "training_metadata.json").read_text())
        assert facts["tokenizer"]["name"] == "else/tok"
        log = capsys.readouterr().out
        assert "tokenizer else/tok: " in log
        assert ("cuts each text at 512 tokens. Here, and in what is published, it does not" in log) == (steps == 1)
    other = f"{command} --output-dir other-out"
    echoself(f"{other} --tokenizer else/none", code=2)
    assert "has neither tokenizer.json nor vocab.json and merges.txt" in capsys.readouterr().err
    echoself(f"{other} --tokenizer else/missing", code=4)
    assert "there is no path else/missing, and else/missing on" in capsys.readouterr().err


# --- what is not kept of a file ---


def test_what_is_not_kept_of_a_tokenizer_is_reported(tmp_path: Path) -> None:
    backend = with_begin_and_end()
    backend.enable_truncation(16)
    backend.enable_padding(pad_id=1, pad_token="!")
    parts = json.loads(backend.to_str())
    parts["model"]["dropout"] = 0.5
    notes: list[str] = []
    path = saved(with_parts(backend, **parts), tmp_path)
    tokenizer = make_tokenizer(str(path), lambda: iter(()), notes.append)
    assert [note.removeprefix(f"{path}: its tokenizer ").partition(".")[0] for note in notes] == [
        "cuts each text at 16 tokens",
        "pads each text",
        "leaves out 50% of the merges by chance",
        f"puts {END} around each text for transformers",
    ]
    text = ENGLISH[0] * 5
    assert len({tuple(tokenizer.encode_batch([text])[0].tolist()) for _ in range(20)}) == 1
    tokenizer.save(tmp_path / "saved")
    later: list[str] = []
    assert load_tokenizer(tmp_path / "saved", later.append).digest == tokenizer.digest
    assert not later


@pytest.mark.parametrize("others", [["tokenizer.model"], ["spiece.model", "tokenizer_config.json"], ["vocab.json"], []])
def test_a_folder_without_a_tokenizer_json_is_refused_with_a_way(tmp_path: Path, others: list[str]) -> None:
    for name in others:
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=r"neither tokenizer\.json nor vocab\.json and merges\.txt") as caught:
        make_tokenizer(str(tmp_path), lambda: iter(()))
    assert "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)" in caught.value.hint


@pytest.mark.parametrize(
    "broken",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},  # a panic of the Rust library
        {"normalizer": {"type": "Unheard"}},
        {"model": {"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}},
    ],
)
def test_a_file_that_tokenizers_does_not_read_is_refused(tmp_path: Path, broken: dict[str, Any]) -> None:
    path = saved(byte_bpe(), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | broken))
    with pytest.raises(InputError, match=r"is not a valid tokenizer\.json"):
        make_tokenizer(str(path), lambda: iter(()))


def test_a_tokenizer_json_of_this_folder_is_compared_with_that_of_the_model(
    workspace: Path, echoself: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(byte_bpe(normalizers.NFC()), workspace)
    echoself(f"train --data docs/*.md {SMALL} --tokenizer tokenizer.json --max-iters 1")
    saved(byte_bpe(normalizers.NFD()), workspace)
    echoself(f"train --data docs/*.md {SMALL} --tokenizer tokenizer.json --max-iters 2", code=2)
    assert "tokenizer: tokenizer.json is not the tokenizer of" in capsys.readouterr().err


# --- what a run says, and what earlier versions left ---


def test_what_a_tokenizer_loses_is_in_log_and_summary(
    workspace: Path, echoself: Cli, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    alphabet = sorted({*"".join(path.read_text() for path in Path("docs").iterdir())} - {"é"})
    backend = tokenizers.Tokenizer(models.BPE({END: 0} | {one: i for i, one in enumerate(alphabet, 1)}, []))
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([END])
    saved(backend, workspace / "tok")
    (workspace / "docs/odd.md").write_text("In a Café.\n")
    message = f"{DROPPED} (1): 0.00% of the text, by ./tok: 'In a Café.\\n' comes back as 'In a Caf.\\n' ("
    for steps in (1, 2):  # the second time from the cache
        echoself(f"train --data docs/*.md --tokenizer ./tok {SMALL} --max-iters {steps}")
        log = capsys.readouterr().out
        assert message in log
        assert "docs/odd.md)" in log
        summary = (tmp_path / "summary.md").read_text()
        assert DROPPED in summary
        assert "In a Caf." in summary


def test_tokens_that_were_not_compared_are_made_again(tmp_path: Path, prepare: Prepare) -> None:
    lossy, exact = saved(character_bpe(), tmp_path / "tok"), make_tokenizer("bytes", lambda: iter(()))
    for tokenizer in (lossy, exact):
        before = prepare(tokenizer, [*ENGLISH, UNICODE])
        (folder,) = (path for path in (tmp_path / "cache").glob("*/") if path.is_dir())
        meta = json.loads((folder / "meta.json").read_text())
        del meta["is_compared"], meta["findings"]
        (folder / "meta.json").write_text(json.dumps(meta | {"warnings": []}))
        after = prepare(tokenizer, [*ENGLISH, UNICODE])
        assert after.tokens.reused == (tokenizer is exact)
        assert after.tokens.digest == before.tokens.digest
        assert after.findings == before.findings
        shutil.rmtree(folder)
