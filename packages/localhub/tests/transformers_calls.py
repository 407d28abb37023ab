"""What users of transformers do with a Hub, in one process: prints what each function returned, as JSON."""

import json
import tempfile
from pathlib import Path

import torch
from huggingface_hub import create_repo, create_tag, model_info, upload_folder
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    logging,
    pipeline,
)

logging.set_verbosity_error()
CONFIG = GPT2Config(vocab_size=32, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1)


def tokenizer():
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1, "hello": 2, "world": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<eos>", model_max_length=16)


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def refusal(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def model_config_and_tokenizer_are_pushed_and_loaded():
    model = GPT2LMHeadModel(CONFIG)
    model.push_to_hub("me/model", tags=["tiny"], commit_message="A model", commit_description="Why")
    tokenizer().push_to_hub("me/model")
    GPT2Config(vocab_size=33).push_to_hub("me/config")
    info = model_info("me/model")
    return {
        "model": same(AutoModelForCausalLM.from_pretrained("me/model"), model),
        "tokenizer": AutoTokenizer.from_pretrained("me/model")("hello world")["input_ids"],
        "config": AutoConfig.from_pretrained("me/config").vocab_size,
        "generation": GenerationConfig.from_pretrained("me/model").eos_token_id,
        "tag": "tiny" in info.tags,
        "parameters": info.safetensors.total,
        "generated": len(pipeline("text-generation", "me/model")("hello", max_new_tokens=2, do_sample=False)),
        "missing": refusal(AutoConfig.from_pretrained, "me/none"),
        "no weights": refusal(AutoModelForCausalLM.from_pretrained, "me/config"),
    }


def a_model_is_pushed_in_shards():
    model = GPT2LMHeadModel(CONFIG)
    model.push_to_hub("me/shards", max_shard_size="3KB")
    files = [file.rfilename for file in model_info("me/shards").siblings if file.rfilename.endswith(".safetensors")]
    return {"shards": len(files), "model": same(AutoModelForCausalLM.from_pretrained("me/shards"), model)}


def branches_tags_and_pull_requests_are_revisions():
    GPT2Config(vocab_size=10).push_to_hub("me/revisions")
    create_tag("me/revisions", tag="v1")
    GPT2Config(vocab_size=11).push_to_hub("me/revisions", revision="dev")
    GPT2Config(vocab_size=12).push_to_hub("me/revisions", create_pr=True)
    GPT2Config(vocab_size=13).push_to_hub("me/revisions")
    revisions = ("main", "v1", "dev", "refs/pr/1", model_info("me/revisions", revision="v1").sha)
    return {
        "sizes": [AutoConfig.from_pretrained("me/revisions", revision=revision).vocab_size for revision in revisions],
        "missing": refusal(AutoConfig.from_pretrained, "me/revisions", revision="none"),
    }


def a_private_model_needs_the_token():
    tokenizer().push_to_hub("me/private", private=True)
    return {
        "private": model_info("me/private").private,
        "length": len(AutoTokenizer.from_pretrained("me/private")),
        "anonymous": refusal(AutoTokenizer.from_pretrained, "me/private", token=False),
        "stranger": refusal(GPT2Config().push_to_hub, "me/model", token="hf_stranger"),
    }


CODE = """
from transformers import PretrainedConfig

class OwnConfig(PretrainedConfig):
    model_type = "own"
    kind = "code of the Hub"
"""


def code_of_a_repo_is_loaded():
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "configuration_own.py").write_text(CODE)
        own = {"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}
        (Path(folder) / "config.json").write_text(json.dumps(own))
        create_repo("me/code")
        upload_folder(repo_id="me/code", folder_path=folder)
    return {"kind": AutoConfig.from_pretrained("me/code", trust_remote_code=True).kind}


CALLS = (
    model_config_and_tokenizer_are_pushed_and_loaded,
    a_model_is_pushed_in_shards,
    branches_tags_and_pull_requests_are_revisions,
    a_private_model_needs_the_token,
    code_of_a_repo_is_loaded,
)
print(json.dumps({call.__name__: call() for call in CALLS}))
