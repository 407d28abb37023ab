"""What users of datasets do with a Hub, in one process: prints what each function returned, as JSON."""

import json
import tempfile
from pathlib import Path

import pandas
from datasets import (
    Dataset,
    DatasetDict,
    disable_progress_bars,
    get_dataset_config_names,
    get_dataset_split_names,
    load_dataset,
    load_dataset_builder,
)
from huggingface_hub import create_repo, create_tag, dataset_info, list_repo_files, upload_folder

disable_progress_bars()


def numbers(count, start=0):
    return Dataset.from_dict({"x": list(range(start, start + count)), "text": [f"text {n}" for n in range(count)]})


def refusal(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def splits_of_a_private_dataset():
    DatasetDict({"train": numbers(20), "test": numbers(5, start=100)}).push_to_hub("me/splits", private=True)
    anonymous = refusal(load_dataset, "me/splits", token=False)  # before the dataset is in the cache
    loaded = load_dataset("me/splits")
    return {
        "rows": {name: split.num_rows for name, split in loaded.items()},
        "first": loaded["test"][0],
        "part": load_dataset("me/splits", split="train[:25%]")["x"][:],
        "names": get_dataset_split_names("me/splits"),
        "builder": sorted(load_dataset_builder("me/splits").info.features),
        "private": dataset_info("me/splits").private,
        "anonymous": anonymous,
        "stranger": refusal(numbers(1).push_to_hub, "me/splits", token="hf_stranger"),
    }


def configurations_have_their_own_files():
    for name, count in (("en", 3), ("fr", 4)):
        numbers(count).push_to_hub("me/configurations", name, split="validation", data_dir=f"data/{name}")
    return {
        "names": get_dataset_config_names("me/configurations"),
        "rows": load_dataset("me/configurations", "fr", split="validation").num_rows,
        "unknown": refusal(load_dataset, "me/configurations", "de"),
        "which": refusal(load_dataset, "me/configurations"),
    }


def a_dataset_is_streamed():
    numbers(1000).push_to_hub("me/streamed", num_shards=4)
    stream = load_dataset("me/streamed", split="train", streaming=True)
    return {
        "shards": stream.num_shards,
        "sum": sum(row["x"] for row in stream),
        "skipped": next(iter(stream.skip(600)))["x"],
        "columns": list(next(iter(load_dataset("me/streamed", split="train", streaming=True, columns=["text"])))),
    }


def branches_tags_and_pull_requests_are_revisions():
    numbers(1).push_to_hub("me/revisions")
    create_tag("me/revisions", tag="v1", repo_type="dataset")
    numbers(2).push_to_hub("me/revisions", revision="dev")
    numbers(3).push_to_hub("me/revisions", create_pr=True, commit_message="More")
    numbers(4).push_to_hub("me/revisions")
    revisions = ("main", "v1", "dev", "refs/pr/1")
    return {
        "rows": [load_dataset("me/revisions", split="train", revision=revision).num_rows for revision in revisions],
        "missing": refusal(load_dataset, "me/revisions", revision="none"),
    }


def a_push_replaces_the_shards_of_the_one_before():
    rows, files = [], []
    for count, shards in ((8, 4), (6, 2)):
        numbers(count).push_to_hub("me/replaced", num_shards=shards)
        rows.append(load_dataset("me/replaced", split="train").num_rows)
        files.append(sum(name.endswith(".parquet") for name in list_repo_files("me/replaced", repo_type="dataset")))
    return {"rows": rows, "files": files}


def files_are_loaded_as_they_are():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.csv").write_text("a,b\n1,x\n2,y\n")
        (folder / "more").mkdir()
        (folder / "more/test.jsonl").write_text('{"a": 3, "b": "z"}\n')
        create_repo("me/files", repo_type="dataset")
        upload_folder(repo_id="me/files", folder_path=folder, repo_type="dataset")
    return {
        "file": load_dataset("me/files", data_files="train.csv", split="train")["a"][:],
        "folder": load_dataset("me/files", data_dir="more", split="test")["b"][:],
        "by url": load_dataset("csv", data_files="hf://datasets/me/files/*.csv", split="train").num_rows,
        "pandas": pandas.read_csv("hf://datasets/me/files/train.csv")["b"].tolist(),
    }


CALLS = (
    splits_of_a_private_dataset,
    configurations_have_their_own_files,
    a_dataset_is_streamed,
    branches_tags_and_pull_requests_are_revisions,
    a_push_replaces_the_shards_of_the_one_before,
    files_are_loaded_as_they_are,
)
print(json.dumps({call.__name__: call() for call in CALLS}))
