import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from echoself_action.corpus.make_tokenizer import load_tokenizer, make_tokenizer
from echoself_action.corpus.readers import read_documents
from echoself_action.corpus.tokenizer import Tokenizer
from echoself_action.errors import CheckpointError, InputError

SPECS = {"gpt2": (50257, 50256), "bpe:1024": (1024, 1023), "bytes": (257, 256)}
EDGES = [
    "",
    " ",
    "\n\n\n",
    " leading and trailing  ",
    "tab\tand\r\nCRLF",
    "don't I'LL 'em",
    "naïve café “quotes” … 中文 العربية",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200b\u00a0\u3000",
    "\x00\x7f\x85\ufeff\uffff",
    "hello , world . it 's n't",
    "Ġ Ċ <0x0A> ▁",
]
END = "before<|endoftext|>after"


@pytest.fixture(scope="module")
def documents(shakespeare_file: Path, chat_files: list[Path]) -> list[str]:
    return [document.text for document in read_documents([shakespeare_file, *chat_files], "fail", pytest.fail)]


@pytest.fixture(scope="module")
def made(shared: Path, documents: list[str]) -> dict[str, Tokenizer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(shared / "tiktoken"))
        return {spec: make_tokenizer(spec, lambda: iter(documents)) for spec in SPECS}


@pytest.fixture(params=SPECS)
def tokenizer(made: dict[str, Tokenizer], request: pytest.FixtureRequest) -> Tokenizer:
    return made[request.param]


def ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoded.tolist() for encoded in tokenizer.encode_batch(texts)]


def test_sizes_and_end_of_text(tokenizer: Tokenizer) -> None:
    assert (tokenizer.vocab_size, tokenizer.end_of_text_id) == SPECS[tokenizer.name]
    assert tokenizer.decode([tokenizer.end_of_text_id]) == "<|endoftext|>"


def test_decode_gives_the_text_back(tokenizer: Tokenizer, documents: list[str]) -> None:
    texts = [*documents, *EDGES, END]
    assert [tokenizer.decode(encoded) for encoded in tokenizer.encode_batch(texts)] == texts


def test_special_tokens_in_a_document_are_ordinary_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.end_of_text_id not in ids(tokenizer, [END])[0]
    assert tokenizer.end_of_text_id not in ids(tokenizer, [END, END])[1]


def test_transformers_loads_the_saved_folder_offline_and_gives_the_same_ids(
    tokenizer: Tokenizer,
    documents: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from transformers import AutoTokenizer, GPT2Config

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    end = tokenizer.end_of_text_id
    # A model folder has one, and AutoTokenizer looks at it first.
    GPT2Config(vocab_size=tokenizer.vocab_size, bos_token_id=end, eos_token_id=end).save_pretrained(tmp_path)
    tokenizer.save(tmp_path, model_max_length=256)
    stock = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    texts = [*documents, *EDGES]
    expected = ids(tokenizer, texts)
    assert stock(texts, verbose=False)["input_ids"] == expected
    assert [stock.decode(encoded) for encoded in expected] == texts
    assert stock(END, split_special_tokens=True)["input_ids"] == ids(tokenizer, [END])[0]
    assert stock("<|endoftext|>")["input_ids"] == [tokenizer.end_of_text_id]
    assert stock.eos_token_id == stock.bos_token_id == stock.pad_token_id == tokenizer.end_of_text_id
    assert len(stock) == tokenizer.vocab_size
    assert stock.model_max_length == 256
    assert not caplog.records


def test_the_folder_loads_without_a_model_config_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer.save(tmp_path)
    assert PreTrainedTokenizerFast.from_pretrained(tmp_path)(EDGES)["input_ids"] == ids(tokenizer, EDGES)


def test_a_reloaded_tokenizer_is_the_same(tokenizer: Tokenizer, documents: list[str], tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.digest, loaded.name) == (tokenizer.digest, tokenizer.name)
    assert (loaded.vocab_size, loaded.end_of_text_id) == (tokenizer.vocab_size, tokenizer.end_of_text_id)
    texts = [*documents[:50], *EDGES, END]
    assert ids(loaded, texts) == ids(tokenizer, texts)


def test_the_digest_survives_saving_by_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer.save(tmp_path / "a")
    PreTrainedTokenizerFast.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    assert load_tokenizer(tmp_path / "b").digest == tokenizer.digest


def test_gpt2_from_the_hub_is_recognised(made: dict[str, Tokenizer], tmp_path: Path) -> None:
    """openai-community/gpt2 is of an older form: merges as strings, a post-processor, fewer options, no eos_token."""
    made["gpt2"].save(tmp_path)
    parts = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    model = parts["model"]
    del model["byte_fallback"], model["ignore_merges"], parts["pre_tokenizer"]["use_regex"]
    model |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
    model["merges"] = [" ".join(merge) for merge in model["merges"]]
    parts["added_tokens"][0]["normalized"] = True
    parts["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(parts), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1024}')
    loaded = load_tokenizer(tmp_path)
    assert (loaded.name, loaded.digest) == ("gpt2", made["gpt2"].digest)
    assert loaded.end_of_text_id == 50256


def test_different_tokenizers_have_different_digests(made: dict[str, Tokenizer]) -> None:
    assert len({tokenizer.digest for tokenizer in made.values()}) == len(made)


def test_the_digest_depends_on_every_id(made: dict[str, Tokenizer], tmp_path: Path) -> None:
    made["bytes"].save(tmp_path)
    parts = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = parts["model"]["vocab"]
    first, second = (token for token, i in vocabulary.items() if i < 2)
    vocabulary[first], vocabulary[second] = 1, 0
    (tmp_path / "tokenizer.json").write_text(json.dumps(parts), encoding="utf-8")
    assert load_tokenizer(tmp_path).digest != made["bytes"].digest


def test_token_bytes_count_the_bytes_of_the_text(tokenizer: Tokenizer, documents: list[str]) -> None:
    lengths = tokenizer.token_bytes
    assert lengths is not None
    for text in documents[:20]:
        assert lengths[tokenizer.encode_batch([text])[0]].sum() == len(text.encode())
    assert lengths[tokenizer.end_of_text_id] == 0


def test_gpt2_gives_gpt2s_ids(made: dict[str, Tokenizer]) -> None:
    assert ids(made["gpt2"], ["Hello world"]) == [[15496, 995]]


def test_bytes_are_the_byte_values(made: dict[str, Tokenizer]) -> None:
    assert ids(made["bytes"], ["é\n"]) == [[0xC3, 0xA9, 0x0A]]


def test_the_same_text_trains_the_same_tokenizer_in_another_process(
    made: dict[str, Tokenizer], documents: list[str], tmp_path: Path
) -> None:
    made["bpe:1024"].save(tmp_path / "here")
    (tmp_path / "texts.json").write_text(json.dumps(documents))
    program = (
        "import json, pathlib, sys; from echoself_action.corpus.make_tokenizer import make_tokenizer\n"
        "folder = pathlib.Path(sys.argv[1]); texts = json.loads((folder / 'texts.json').read_text())\n"
        "make_tokenizer('bpe:1024', lambda: iter(texts)).save(folder / 'there')"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_a_corpus_too_small_for_bpe_suggests_a_size() -> None:
    def texts() -> Iterator[str]:
        return iter(["to be or not to be, that is the question"] * 3)

    with pytest.raises(InputError, match="too small for the tokenizer bpe:5000") as caught:
        make_tokenizer("bpe:5000", texts)
    fitting = caught.value.hint.split()[1]
    assert make_tokenizer(fitting, texts).vocab_size == int(fitting[4:])


@pytest.mark.parametrize("spec", ["bpe:", "bpe:256", "bpe:many", "bpe:-5", "gpt3", "missing/tokenizer.json"])
def test_an_invalid_spec_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match=spec) as caught:
        make_tokenizer(spec, lambda: iter(["text"]))
    assert caught.value.hint


def test_gpt2_offline_suggests_tokenizers_without_download(tmp_path: Path) -> None:
    program = (
        "import sys; from echoself_action.corpus.make_tokenizer import make_tokenizer; from echoself_action.errors import *\n"
        "try: make_tokenizer('gpt2', lambda: iter(()))\n"
        "except InputError as error: print(error); sys.exit(error.exit_code)"
    )
    environment = {"TIKTOKEN_CACHE_DIR": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:1", "PYTHONPATH": "."}
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", program], env=environment, cwd=root, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert "can't be downloaded" in run.stdout
    assert "bpe:<size>" in run.stdout


def test_a_tokenizer_json_of_another_kind_is_used_without_added_tokens(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GPT2Config

    backend = tokenizers.Tokenizer(models.WordLevel({"</s>": 0, "hello": 1, "world": 2, "?": 3}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    backend.add_special_tokens(["</s>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "</s>"}}')
    tokenizer = make_tokenizer(str(tmp_path / "tokenizer.json"), lambda: iter(()))
    assert ids(tokenizer, ["hello world", "hello there"]) == [[1, 2], [1, 3]]
    assert tokenizer.end_of_text_id == 0
    tokenizer.save(tmp_path / "saved")
    GPT2Config().save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")("hello world")["input_ids"] == [1, 2]
    assert load_tokenizer(tmp_path / "saved").digest == tokenizer.digest


def test_a_model_folder_without_a_usable_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="can't be read"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not a valid tokenizer"):
        load_tokenizer(tmp_path)
    tokenizers.Tokenizer(models.BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="no end-of-text token"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer_config.json beside it"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_has_encoded_text_can_be_sent_to_another_process(made: dict[str, Tokenizer]) -> None:
    for tokenizer in made.values():
        expected = tokenizer.encode_batch(["Hello world"])[0].tolist()
        received = pickle.loads(pickle.dumps(tokenizer))  # noqa: S301  # written by this line, as multiprocessing does
        assert received.encode_batch(["Hello world"])[0].tolist() == expected
        assert received.digest == tokenizer.digest
