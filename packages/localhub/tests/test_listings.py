"""`list_models`, `list_datasets`, `list_spaces`, and the properties that `expand` asks for."""

import json
import struct
from typing import get_args

import pytest
from huggingface_hub import hf_api
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

CARD = b"""---
license: mit
language: en
tags: [gpt2]
library_name: transformers
pipeline_tag: text-generation
base_model: me/base
widget: [{text: Hello}]
---
"""
CONFIG = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 8}


def safetensors(**shapes):
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return struct.pack("<Q", len(text)) + text


WEIGHTS = safetensors(wte=[10, 8], b=[8])


@pytest.fixture
def models(api, put):
    """Three models of two owners; only the first has files."""
    for name in ("me/alpha", "me/beta-small", "You/gamma-small"):
        api.create_repo(name)
    files = {
        "README.md": CARD,
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors": safetensors(wte=[10, 8], b=[8]),
    }
    put(api, files, repo_id="me/alpha")


def ids(listed):
    return [item.id for item in listed]


def test_models_by_author_search_and_filter(api, models):
    assert ids(api.list_models()) == ["You/gamma-small", "me/alpha", "me/beta-small"]
    assert ids(api.list_models(author="you")) == ["You/gamma-small"]
    assert ids(api.list_models(search="SMALL")) == ["You/gamma-small", "me/beta-small"]
    assert ids(api.list_models(author="me", search="small")) == ["me/beta-small"]
    for tags in ("gpt2", "license:mit", "en", "text-generation", ["transformers", "safetensors", "base_model:me/base"]):
        assert ids(api.list_models(filter=tags)) == ["me/alpha"]
    assert ids(api.list_models(filter=["gpt2", "dummytag"])) == []
    assert ids(api.list_models(pipeline_tag="text-generation")) == ["me/alpha"]
    assert ids(api.list_models(num_parameters="min:80,max:0.1K")) == ["me/alpha"]
    assert ids(api.list_models(num_parameters="min:1K")) == []


def test_own_repos_with_their_storage(client_of, put):
    api = client_of("token-owner")
    api.create_repo("my-org/data", repo_type="dataset", private=True)
    put(api, {"model.safetensors": WEIGHTS})
    (mine,) = api.list_user_repos()
    assert (mine.id, mine.type, mine.visibility, mine.storage, mine.storage_percent) == (
        "me/model",
        "model",
        "public",
        len(WEIGHTS),
        100,
    )
    (ours,) = api.list_user_repos(namespace="my-org")
    assert (ours.id, ours.type, ours.visibility, ours.storage) == ("my-org/data", "dataset", "private", 0)
    assert list(client_of("token-stranger").list_user_repos()) == []
    with pytest.raises(HfHubHTTPError, match="not a member"):
        list(client_of("token-stranger").list_user_repos(namespace="my-org"))


def test_gated_models(api, models):
    api.update_repo_settings("me/alpha", gated="manual")
    assert ids(api.list_models(gated=True)) == ["me/alpha"]
    assert ids(api.list_models(gated=False)) == ["You/gamma-small", "me/beta-small"]


def test_sorted_listings_have_the_newest_first(api, models, hub):
    for day, name in enumerate(("me/beta-small", "You/gamma-small", "me/alpha")):
        settings = hub.storage.folder / f"models/{name}.git/hub/repo.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "created_at": f"2026-01-0{day + 1}T00:00:00.000Z"}))
    assert ids(api.list_models(sort="created_at")) == ["me/alpha", "You/gamma-small", "me/beta-small"]
    assert ids(api.list_models(sort="created_at", limit=1)) == ["me/alpha"]
    assert len(ids(api.list_models(sort="downloads"))) == len(ids(api.list_models(sort="last_modified"))) == 3
    with pytest.raises(BadRequestError, match='"sort" must be one of createdAt'):
        list(api.list_models(sort="name"))


def test_all_filters_apply_to_every_page(api):
    for number in range(16):  # a page has 7
        api.create_repo(f"me/data-{number:02}", repo_type="dataset")
    api.create_repo("me/other", repo_type="dataset")
    expected = [f"me/data-{number:02}" for number in range(16)]
    assert ids(api.list_datasets(dataset_name="data", search="me/")) == expected
    assert ids(api.list_datasets(search="data", limit=9)) == expected[:9]


def test_datasets_by_the_metadata_of_their_cards(api, put):
    card = b"---\nlicense: mit\nlanguage: [en, fr]\ntask_categories: [text-generation]\nsize_categories: [n<1K]\n---\n"
    for name in ("me/corpus", "me/empty"):
        api.create_repo(name, repo_type="dataset")
    put(api, {"README.md": card}, repo_id="me/corpus", repo_type="dataset")
    for query in ({"language": ["en", "fr"]}, {"task_categories": "text-generation"}, {"size_categories": "n<1K"}):
        assert ids(api.list_datasets(**query)) == ["me/corpus"]
    assert ids(api.list_datasets(language="de")) == []
    (short,) = api.list_datasets(filter="license:mit")
    (full,) = api.list_datasets(filter="license:mit", full=True)
    assert (short.card_data, short.siblings, full.card_data.language) == (None, None, ["en", "fr"])
    assert "README.md" in [one.rfilename for one in full.siblings]


def test_short_and_full_listings_of_models(api, models):
    (short,) = api.list_models(filter="gpt2")
    assert (short.pipeline_tag, short.card_data, short.config, short.siblings) == ("text-generation", None, None, None)
    (full,) = api.list_models(filter="gpt2", full=True, cardData=True, fetch_config=True)
    assert (full.card_data.license, full.config["model_type"], len(full.siblings)) == ("mit", "gpt2", 4)


def test_expanded_listings_have_only_what_was_asked_for(api, models):
    for model in api.list_models(expand=["author", "downloadsAllTime"]):
        assert (model.author, model.downloads_all_time) == (model.id.partition("/")[0], 0)
        assert (model.downloads, model.created_at, model.last_modified, model.siblings) == (None, None, None, None)
    with pytest.raises(HfHubHTTPError, match='"expand" must be one of') as refused:
        list(api.list_models(expand=["foo"]))
    assert refused.value.response.status_code == 400


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_expand_allows_what_the_client_knows(api, kind):
    api.create_repo("me/one", repo_type=kind, space_sdk="static" if kind == "space" else None)
    known = get_args(getattr(hf_api, f"Expand{kind.title()}Property_T"))
    assert api.repo_info("me/one", repo_type=kind, expand=list(known)).sha
    with pytest.raises(BadRequestError) as refused:
        api.repo_info("me/one", repo_type=kind, expand=["does_not_exist"])
    named = refused.value.response.json()["error"].removeprefix('"expand" must be one of ').strip("[]").split(", ")
    assert set(named) == set(known)


def test_info_of_a_model_has_its_config_parameters_and_spaces(api, models, put):
    api.create_repo("me/demo", repo_type="space", space_sdk="static")
    card = b"---\ntitle: Demo\nsdk: static\nmodels: [me/alpha]\n---\n"
    put(api, {"README.md": card}, repo_id="me/demo", repo_type="space")
    tokenizer = {"mask_token": {"content": "<mask>"}, "eos_token": "</s>"}
    put(api, {"tokenizer_config.json": json.dumps(tokenizer).encode()}, repo_id="me/alpha")
    info = api.model_info("me/alpha")
    assert info.config == {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "tokenizer_config": tokenizer,
    }
    assert info.safetensors == {"parameters": {"F32": 88}, "total": 88}
    assert info.transformers_info.auto_model == "AutoModelForCausalLM"
    assert (info.spaces, info.mask_token, info.widget_data) == (["me/demo"], "<mask>", [{"text": "Hello"}])
    assert info.used_storage == len(WEIGHTS)
    assert api.model_info("me/alpha", expand=["safetensors"]).safetensors["total"] == 88
    assert api.model_info("me/alpha", expand=["baseModels"]).base_models == {"models": [{"id": "me/base"}]}
    assert api.space_info("me/demo").runtime.stage == "RUNNING"


def test_info_of_a_model_has_its_children_and_evaluations(api, models, put):
    for name in ("me/beta-small", "me/hidden"):
        api.create_repo(name, exist_ok=True)
        put(api, {"README.md": b"---\nbase_model: [me/alpha]\n---\n"}, repo_id=name)
    results = (
        b"- dataset: {id: cais/hle, task_id: default}\n  value: 20.9\n  date: 2026-01-15\n  source: {url: 'https://x.org'}\n"
    )
    put(api, {".eval_results/hle.yaml": results, ".eval_results/bad.yaml": b"- value: 1\n"}, repo_id="me/alpha")
    info = api.model_info("me/alpha", expand=["childrenModelCount", "evalResults"])
    assert info.children_model_count == 2
    (result,) = info.eval_results  # the client leaves out the invalid file
    assert (result.dataset_id, result.task_id, result.value, result.date) == ("cais/hle", "default", 20.9, "2026-01-15")
    assert result.source_url == "https://x.org"
    other = api.model_info("me/beta-small", expand=["childrenModelCount", "evalResults"])
    assert (other.children_model_count, other.eval_results) == (0, None)


def gguf(pairs, shapes=(), version=3):
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    content = b"GGUF" + struct.pack("<IQQ", version, len(shapes), len(pairs))
    for key, value in pairs.items():
        if isinstance(value, list):
            value = struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        elif isinstance(value, str):
            value = struct.pack("<I", 8) + text(value)
        elif isinstance(value, int):
            value = struct.pack("<II", 4, value)
        content += text(key) + value
    for shape in shapes:
        content += text("w") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, 0)
    return content


GGUF = gguf(
    {
        "general.architecture": "llama",
        "llama.context_length": 2048,
        "llama.epsilon": struct.pack("<If", 6, float("nan")),
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>"],
        "tokenizer.ggml.scores": struct.pack("<IIQfff", 9, 6, 3, 1, 2, 3),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 9,
        "tokenizer.chat_template": "{{ messages }}",
    },
    [(10, 8), (8,)],
)


def test_info_of_a_model_has_the_header_of_its_gguf_file(api, repo, put):
    expected = {
        "total": 88,
        "architecture": "llama",
        "context_length": 2048,
        "bos_token": "<s>",  # the id of the other token is not in the vocabulary
        "chat_template": "{{ messages }}",
    }
    for name in ("model.gguf", "a.gguf"):
        put(api, {name: GGUF})
        assert api.model_info(repo).gguf == expected
    put(api, {".gitattributes": b""})
    put(api, {"a.gguf": GGUF + b"in git"})
    assert api.model_info(repo, expand=["gguf"]).gguf == expected


@pytest.mark.parametrize(
    "content",
    [
        b"GGUF",
        b"weights" * 9,
        GGUF[:-9],
        gguf({}, version=1),
        gguf({"a": struct.pack("<I", 99)}),
        gguf({"a": struct.pack("<IIQ", 9, 9, 1)}),
        gguf({"a": struct.pack("<IIQ", 9, 0, 2**60)}),
        gguf({"a": struct.pack("<IQ", 8, 2**63)}),
        gguf({"a": struct.pack("<IIQQ", 9, 8, 1, 2**63)}),
        gguf({"a": struct.pack("<IIQQ", 9, 8, 2, 0)}),
        gguf({"a": struct.pack("<IIQQ", 9, 8, 2, 2**64 - 1)}),
        gguf({}, [(2**40, 2**40)]),
        b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63),
    ],
)
def test_file_that_is_not_valid_gguf_is_left_out(api, repo, put, content):
    put(api, {"model.gguf": content})
    assert api.model_info(repo).gguf is None


def test_info_of_a_dataset_has_its_description_citation_and_size(api, put):
    api.create_repo("me/data", repo_type="dataset")
    card = b"---\nlicense: mit\n---\n# Title\n\nA **set** of [texts](https://x.org).<br>\n\n```bibtex\n@misc{x}\n```\n"
    put(api, {"README.md": card, "a.bin": b"12345"}, repo_id="me/data", repo_type="dataset")
    info = api.dataset_info("me/data", expand=["description", "citation", "mainSize"])
    assert (info.description, info.citation) == ("Title A set of texts.", "@misc{x}")
    sizes = [file.size for file in api.list_repo_tree("me/data", repo_type="dataset")]
    assert info.main_size == sum(sizes) > 5


def test_parameters_of_shards_are_added(api, repo, put):
    shards = {f"model-0000{n}-of-00002.safetensors": safetensors(w=[n, 10]) for n in (1, 2)}
    put(api, shards)
    assert api.model_info(repo).safetensors["total"] == 30


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"weights",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        safetensors(w=["a"]),
        safetensors(w=[2**53] * 64),
        safetensors(w=[-1]),
    ],
)
def test_file_that_is_not_valid_safetensors_has_no_parameters(api, repo, put, content):
    put(api, {"model.safetensors": content})
    assert api.model_info(repo).safetensors is None


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"model_type": NaN}', b'{"model_type": "\\ud800"}', b"[]", b"\xff", b"1" * 9999]
)
def test_invalid_config_is_left_out(api, repo, put, content):
    put(api, {"config.json": content, "model.safetensors": safetensors(w=[2])})
    info = api.model_info(repo)
    assert (info.config, info.transformers_info, info.safetensors["total"]) == (None, None, 2)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", f"limit={'9' * 5000}", "gated=maybe", "num_parameters=many", "apps=ollama"]
)
def test_invalid_query_of_a_listing_is_rejected(ask, hub, query):
    assert ask(hub.url, "GET", f"/api/models?{query}").status == 400
