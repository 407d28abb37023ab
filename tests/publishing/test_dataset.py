"""upload_datasets: the documents on the Hub are those that the model was trained on, in the same splits, and the model names
their commit. A real local Hub over HTTP; the Parquet files are read with pyarrow by the globs of the card, as datasets does."""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pyarrow.parquet
import pytest
from huggingface_hub import DatasetCard, ModelCard

from echoself_action.config.inputs import DEFAULT_CONFIG
from echoself_action.corpus import parquet_dataset
from echoself_action.corpus.globs import find_files
from echoself_action.corpus.readers import read_documents
from echoself_action.corpus.split import is_validation
from echoself_action.hub.client import open_hub
from echoself_action.hub.endpoint import Hub

from ..conftest import SMALL, Cli
from ..hub.secret_kinds import SECRETS

TRAIN = f"train --tokenizer bytes {SMALL} --data docs/*.md"
DEPLOY = "deploy --hub hub --repo-id me/model --data docs/*.md --upload-datasets"
DATASET = "me/model-dataset"
ROWS = list[tuple[str, str, int]]


@pytest.fixture
def trained(begun: Cli) -> dict[str, str]:
    return begun(TRAIN)


@pytest.fixture
def hub(workspace: Path) -> Iterator[Hub]:
    with open_hub("hub", None) as opened:
        yield opened


def commits(hub: Hub, repo_id: str = DATASET, kind: str = "dataset") -> list[str]:
    return [commit.commit_id for commit in hub.api.list_repo_commits(repo_id, repo_type=kind)]


def card(hub: Hub, repo_id: str = DATASET, kind: str = "dataset", revision: str = "main") -> str:
    return Path(hub.api.hf_hub_download(repo_id, "README.md", repo_type=kind, revision=revision)).read_text()


def published_rows(hub: Hub, revision: str = "main") -> dict[str, ROWS]:
    """What `load_dataset` gives: of each split in the card, the rows of the files that its glob names."""
    (config,) = DatasetCard(card(hub, revision=revision)).data.to_dict()["configs"]
    names = hub.api.list_repo_files(DATASET, repo_type="dataset", revision=revision)
    return {
        split["split"]: [row for name in names if fnmatch(name, split["path"]) for row in rows_of(hub, name, revision)]
        for split in config["data_files"]
    }


def rows_of(hub: Hub, name: str, revision: str = "main", repo_id: str = DATASET, kind: str = "dataset") -> ROWS:
    table = pyarrow.parquet.read_table(hub.api.hf_hub_download(repo_id, name, repo_type=kind, revision=revision))
    return [(row["text"], row["source"], row["position"]) for row in table.to_pylist()]


def test_published_documents_are_complete_and_in_the_splits_of_training(
    echoself: Cli, workspace: Path, trained: dict[str, str], hub: Hub
) -> None:
    outputs = echoself(DEPLOY)
    assert outputs["dataset_sha"] == commits(hub)[0]
    documents = list(read_documents(find_files(["docs/*.md"], workspace), "fail", print))
    rows = published_rows(hub)
    for split, held_out in (("train", False), ("validation", True)):
        expected = sorted(one.text for one in documents if is_validation(one.text, 0.1) == held_out)
        assert sorted(text for text, _, _ in rows[split]) == expected
    facts = json.loads((Path(trained["model_dir"]) / "training_metadata.json").read_text())
    assert (facts["data"]["documents"], facts["data"]["val_documents"]) == (len(documents), len(rows["validation"]))
    by_file: dict[str, dict[int, str]] = {}
    for text, source, position in [*rows["train"], *rows["validation"]]:
        by_file.setdefault(source, {})[position] = text
    assert len(by_file) == len(list(Path("docs").glob("*.md")))
    for source, passages in by_file.items():
        assert "".join(passages[position] for position in sorted(passages)) == Path(source).read_text()


def test_the_metadata_the_card_and_the_report_name_the_commit_of_the_dataset(
    echoself: Cli, trained: dict[str, str], hub: Hub, tmp_path: Path
) -> None:
    sha = echoself(DEPLOY)["dataset_sha"]
    text = card(hub, "me/model", "model")
    assert ModelCard(text).data.to_dict()["datasets"] == [DATASET]
    assert f"dataset `{DATASET}` at commit `{sha}`" in text
    read = {
        name: Path(hub.api.hf_hub_download("me/model", name)).read_text()
        for name in ("training_metadata.json", "metrics/history.jsonl")
    }
    assert json.loads(read["training_metadata.json"])["dataset"] == {"repo_id": DATASET, "commit": sha}
    assert json.loads(read["metrics/history.jsonl"])["dataset"] == f"{DATASET}@{sha}"
    assert sha in (tmp_path / "summary.md").read_text()
    assert "dataset:me/model-dataset" in (hub.api.model_info("me/model").tags or [])


def test_the_card_has_what_the_viewer_reads_and_the_hub_accepts_it(echoself: Cli, trained: dict[str, str], hub: Hub) -> None:
    echoself(DEPLOY, "--license cc-by-4.0 --language en")
    text = card(hub)
    front = DatasetCard(text).data.to_dict()
    assert (front["license"], front["language"], front["size_categories"]) == ("cc-by-4.0", ["en"], ["n<1K"])
    assert front["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train*.parquet"},
        {"split": "validation", "path": "data/validation*.parquet"},
    ]
    sizes = {split["name"]: split["num_examples"] for split in front["dataset_info"]["splits"]}
    assert sizes == {split: len(rows) for split, rows in published_rows(hub).items()}
    schema = pyarrow.parquet.read_schema(hub.api.hf_hub_download(DATASET, "data/train.parquet", repo_type="dataset"))
    assert [(one["name"], one["dtype"]) for one in front["dataset_info"]["features"]] == [
        (field.name, str(field.type)) for field in schema
    ]


def test_unchanged_documents_make_no_commit(
    echoself: Cli, trained: dict[str, str], hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    first = echoself(DEPLOY)
    before = commits(hub), commits(hub, "me/model", "model")
    stored = sorted(path.stat().st_mtime_ns for path in Path("hub").rglob("*") if path.is_file() and "lfs" in path.parts)
    capsys.readouterr()
    again = echoself(DEPLOY)
    assert f"already holds these documents at commit {first['dataset_sha']}: nothing was sent" in capsys.readouterr().out
    assert (again["dataset_sha"], again["deployed"]) == (first["dataset_sha"], "false")
    assert (commits(hub), commits(hub, "me/model", "model")) == before
    assert stored == sorted(
        path.stat().st_mtime_ns for path in Path("hub").rglob("*") if path.is_file() and "lfs" in path.parts
    )


def test_text_added_to_the_dataset_card_is_kept_and_does_not_republish_the_model(
    echoself: Cli, trained: dict[str, str], hub: Hub
) -> None:
    first = echoself(DEPLOY)
    edited = card(hub) + "\nAsk Ada before you use it.\n"
    hub.api.upload_file(path_or_fileobj=edited.encode(), path_in_repo="README.md", repo_id=DATASET, repo_type="dataset")
    again = echoself(DEPLOY)
    assert card(hub) == edited
    assert (again["dataset_sha"], again["deployed"]) == (first["dataset_sha"], "false")
    hub.api.upload_file(path_or_fileobj=b"# Mine\n", path_in_repo="README.md", repo_id=DATASET, repo_type="dataset")
    echoself(DEPLOY)
    assert card(hub) == "# Mine\n"


def test_one_changed_file_sends_only_its_shard(
    echoself: Cli, workspace: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parquet_dataset.write_dataset, "__defaults__", (15_000,))
    echoself(TRAIN)
    echoself(DEPLOY)
    before = hub.api.dataset_info(DATASET, files_metadata=True).siblings
    assert before
    shards = {one.rfilename: one.lfs.sha256 for one in before if one.lfs}
    assert len(shards) > 8
    changed = sorted(Path("docs").glob("*.md"))[0]
    changed.write_text("A document that was not there before.\n\n" * 9)
    echoself(TRAIN, "--output-dir other")
    echoself(DEPLOY, "--output-dir other --gate none")
    after = {
        one.rfilename: one.lfs.sha256 for one in hub.api.dataset_info(DATASET, files_metadata=True).siblings or () if one.lfs
    }
    differ = {name for name in shards.keys() | after.keys() if shards.get(name) != after.get(name)}
    assert len({name for name in differ if name.startswith("data/train")}) == 1
    assert len(differ) <= 2  # the other is of the validation split
    sent = re.findall(r"published (\d+) files, [\d,]+ bytes, to \S+/datasets/", capsys.readouterr().out)
    assert int(sent[-1]) == len(differ) + 1  # and the card, which counts the rows
    assert commits(hub)[0] in card(hub, "me/model", "model")


def test_an_outdated_shard_is_removed_and_a_file_of_the_user_is_kept(
    echoself: Cli, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    echoself(TRAIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_dataset.write_dataset, "__defaults__", (50_000,))
        first = echoself(DEPLOY)
    hub.api.upload_file(path_or_fileobj=b"1\n", path_in_repo="data/mine.csv", repo_id=DATASET, repo_type="dataset")
    second = echoself(DEPLOY)
    shards = [name for name in hub.api.list_repo_files(DATASET, repo_type="dataset") if name.startswith("data/")]
    assert shards == ["data/mine.csv", "data/train.parquet", "data/validation.parquet"]
    for split, rows in published_rows(hub, second["dataset_sha"]).items():
        assert sorted(rows) == sorted(published_rows(hub, first["dataset_sha"])[split])


def test_with_layout_folder_the_documents_are_in_the_commit_of_the_model(
    echoself: Cli, trained: dict[str, str], hub: Hub
) -> None:
    outputs = echoself(DEPLOY, "--dataset-layout folder")
    assert outputs["dataset_sha"] == outputs["commit_sha"]
    assert not hub.api.repo_exists(DATASET, repo_type="dataset")
    names = ("datasets/train.parquet", "datasets/validation.parquet")
    rows = [row for name in names for row in rows_of(hub, name, outputs["commit_sha"], "me/model", "model")]
    assert {source for _, source, _ in rows} == {str(path) for path in Path("docs").glob("*.md")}
    assert "in `datasets/` of this repo" in card(hub, "me/model", "model")
    provenance = json.loads(Path(hub.api.hf_hub_download("me/model", "provenance.json")).read_text())
    assert set(names) <= provenance["files"].keys()
    assert echoself(DEPLOY, "--dataset-layout folder")["deployed"] == "false"
    assert commits(hub, "me/model", "model")[0] == outputs["commit_sha"]
    pulled = echoself("pull --hub hub --repo-id me/model --output-dir pulled")
    assert not list(Path(pulled["model_dir"]).rglob("*.parquet"))


@pytest.mark.parametrize("layout", ["repo", "folder"])
def test_a_dry_run_lists_the_documents_and_uploads_nothing(
    echoself: Cli, trained: dict[str, str], hub: Hub, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    assert echoself(DEPLOY, "--dry-run --dataset-layout", layout)["dataset_sha"] == ""
    folder = "data" if layout == "repo" else "datasets"
    assert re.search(rf"new +[\d,]+ bytes  {folder}/train\.parquet", capsys.readouterr().out)
    assert not hub.api.repo_exists("me/model")
    assert not hub.api.repo_exists(DATASET, repo_type="dataset")


def test_private_applies_to_a_new_dataset_repo(echoself: Cli, trained: dict[str, str], hub: Hub) -> None:
    echoself(DEPLOY, "--private --dataset-repo-id me/secret-words")
    assert hub.api.dataset_info("me/secret-words").private
    assert hub.api.model_info("me/model").private
    hub.api.create_repo("me/open", repo_type="dataset")
    echoself(DEPLOY, "--private --dataset-repo-id me/open")
    assert not hub.api.dataset_info("me/open").private


def test_no_path_of_this_machine_is_published(echoself: Cli, workspace: Path, tmp_path: Path, hub: Hub) -> None:
    outside = tmp_path / "home-of-ada"
    outside.mkdir()
    (outside / "diary.txt").write_text("Dear diary.\n\n" * 400)
    more = f"--data docs/*.md,{outside}/*.txt"
    echoself(TRAIN, more)
    echoself(DEPLOY, more)
    sources = {source for rows in published_rows(hub).values() for _, source, _ in rows}
    (foreign,) = (source for source in sources if "diary" in source)
    assert re.fullmatch(r"\.\./[0-9a-f]{16}/diary\.txt", foreign)
    content = b"".join(path.read_bytes() for path in Path("hub/datasets").rglob("*") if path.is_file())
    assert b"home-of-ada" not in content
    assert not any(source.startswith("/") for source in sources)


@pytest.mark.parametrize("mode", ["deploy", "cycle"])
def test_a_secret_in_a_document_is_reported_with_file_and_line_and_nothing_is_published(
    echoself: Cli, workspace: Path, hub: Hub, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    path = sorted(Path("docs").glob("*.md"))[3]
    lines = path.read_text().split("\n")
    place = len(lines) - 2
    path.write_text("\n".join([*lines[:place], f"token {SECRETS['github']}", *lines[place:]]))
    Path("docs/chat.jsonl").write_text(f'{{"text": "hello"}}\n{{"text": "a\\nb {SECRETS["github"]}"}}\n')
    data = "--data docs/*.md,docs/*.jsonl"
    if mode == "deploy":
        echoself(TRAIN, data)
    capsys.readouterr()
    how = DEPLOY if mode == "deploy" else DEPLOY.replace("deploy", "cycle") + f" --tokenizer bytes {SMALL}"
    for more in ("", "--dataset-layout folder"):
        echoself(how, data, more, code=2)
        logged = capsys.readouterr()
        assert f"{path}, line {place + 1}: GitHub Token" in logged.err
        assert "docs/chat.jsonl, line 2: GitHub Token" in logged.err
        assert SECRETS["github"] not in logged.err + logged.out
        assert "Training" not in logged.out
    assert not hub.api.repo_exists("me/model")
    assert not hub.api.repo_exists(DATASET, repo_type="dataset")


def test_documents_of_another_corpus_are_refused(
    echoself: Cli, trained: dict[str, str], hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ("--val-fraction 0.2", "--data docs/scene-0*.md"):
        echoself(DEPLOY, more, code=2)
        assert "was trained on a different corpus than `data` selects here" in capsys.readouterr().err
    assert not hub.api.repo_exists(DATASET, repo_type="dataset")
    first = echoself(DEPLOY)
    Path("docs/new.md").write_text("New words.\n")
    again = echoself(DEPLOY)  # published already: it keeps what it has
    assert "is not its training corpus: not sent" in capsys.readouterr().out
    assert (again["deployed"], again["dataset_sha"], len(commits(hub))) == ("false", "", len(commits(hub)))
    assert first["dataset_sha"] in card(hub, "me/model", "model")


def test_token_files_cannot_be_published_as_documents(
    echoself: Cli, workspace: Path, trained: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("docs/train.bin").write_bytes(b"\0\0")
    echoself(DEPLOY, "--data docs/*.bin", code=2)
    assert "docs/train.bin contains token ids, not documents" in capsys.readouterr().err


def test_the_documents_of_an_imported_model_are_unknown(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    facts = Path(trained["model_dir"]) / "training_metadata.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"data": None}))
    echoself(DEPLOY, "--checkpoint", trained["model_dir"], code=2)
    assert "does not record what" in capsys.readouterr().err


def test_a_cycle_publishes_its_documents_and_the_next_one_only_changed_shards(echoself: Cli, workspace: Path, hub: Hub) -> None:
    cycle = DEPLOY.replace("deploy", "cycle") + f" --tokenizer bytes {SMALL}"
    first = echoself(cycle, "--output-dir first")
    assert first["dataset_sha"] == commits(hub)[0]
    second = echoself(cycle, "--output-dir second --max-iters 60")
    assert (second["deployed"], second["dataset_sha"]) == ("true", first["dataset_sha"])
    Path("docs/new.md").write_text("New words, and more of them.\n\n" * 50)
    third = echoself(cycle, "--output-dir third --max-iters 100 --gate none")
    assert third["dataset_sha"] not in ("", first["dataset_sha"])
    head = Path(hub.api.hf_hub_download("me/model", "training_metadata.json", revision=third["commit_sha"])).read_text()
    assert json.loads(head)["dataset"]["commit"] == third["dataset_sha"]
    assert any(source == "docs/new.md" for rows in published_rows(hub, third["dataset_sha"]).values() for _, source, _ in rows)


def leave_out(glob: str) -> None:
    """Have all runs train without the text of the files that match."""
    Path(DEFAULT_CONFIG).parent.mkdir(exist_ok=True)
    Path(DEFAULT_CONFIG).write_text(f"phases: [{{name: all, weights: {{'{glob}': 0}}}}]\n")


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_training_from_the_dataset_equals_training_from_the_files(
    echoself: Cli, workspace: Path, hub: Hub, tokenizer: str
) -> None:
    train = f"train --tokenizer {tokenizer} {SMALL} --hub hub"
    leave_out("docs/*1.md")
    here = echoself(train, "--data docs/*.md --output-dir here")
    sha = echoself(DEPLOY, "--output-dir here")["dataset_sha"]
    for number, source in enumerate((f"hf://datasets/{DATASET}", f"hf://datasets/{DATASET}@{sha}")):
        leave_out(f"hf://datasets/{DATASET}/docs/*1.md")
        for names in Path(".echoself/datasets").rglob("*.names.json"):
            names.unlink()  # as in the cache of an earlier version
        there = echoself(train, f"--data {source} --output-dir there-{number}")
        facts = [json.loads((Path(one["model_dir"]) / "training_metadata.json").read_text())["data"] for one in (here, there)]
        assert {**facts[0], "patterns": []} == {**facts[1], "patterns": []}
        assert there["val_loss"] == here["val_loss"]


def test_records_read_from_the_dataset_keep_their_splits(echoself: Cli, workspace: Path, hub: Hub) -> None:
    lines = [json.dumps({"messages": [{"role": "user", "content": f"Is {n} odd?"}]}) for n in range(200)]
    Path("docs/chat.jsonl").write_text("\n".join(lines) + "\n")
    data = "--data docs/*.md,docs/*.jsonl"
    here = echoself(TRAIN, data, "--output-dir here")
    echoself(DEPLOY, data, "--output-dir here")
    there = echoself(TRAIN.replace("docs/*.md", f"hf://datasets/{DATASET}"), "--hub hub --output-dir there")
    of_order = ("digest", "patterns", "ppmd_bits_per_byte")  # differ with the order of the training text
    sizes = [
        {key: value for key, value in json.loads(path.read_text())["data"].items() if key not in of_order}
        for path in (Path(one["model_dir"]) / "training_metadata.json" for one in (here, there))
    ]
    assert sizes[0] == sizes[1]


def test_a_dataset_of_another_program_is_read_by_its_columns(
    echoself: Cli, workspace: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.api.create_repo("you/chats", repo_type="dataset")
    train = f"train --tokenizer bytes {SMALL} --hub hub --data hf://datasets/you/chats"
    echoself(train, code=2)
    assert "hf://datasets/you/chats has no Parquet files at commit" in capsys.readouterr().err
    pyarrow.parquet.write_table(pyarrow.table({"text": [f"{n} is a number. " * 9 for n in range(99)]}), "chats.parquet")
    hub.api.upload_file(
        path_or_fileobj="chats.parquet", path_in_repo="en/chats.parquet", repo_id="you/chats", repo_type="dataset"
    )
    leave_out("hf://datasets/you/chats/en/*.parquet")
    echoself(train, code=2)
    assert "phases: phase all: weights: 0 for all training text. Nothing was trained." in capsys.readouterr().err
    Path(DEFAULT_CONFIG).unlink()
    facts = json.loads((Path(echoself(train)["model_dir"]) / "training_metadata.json").read_text())
    assert facts["data"]["documents"] == 99
    echoself(train.replace("chats", "nothing"), code=4)
    assert "Repo datasets/you/nothing" in capsys.readouterr().err


def test_a_modified_dataset_is_refused(
    echoself: Cli, trained: dict[str, str], hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself(DEPLOY)
    table = pyarrow.parquet.read_table(hub.api.hf_hub_download(DATASET, "data/train.parquet", repo_type="dataset"))
    for name, changed in (("other order", table.take(list(range(len(table)))[::-1])), ("no Parquet", None)):
        if changed:
            pyarrow.parquet.write_table(changed, "changed.parquet")
        else:
            Path("changed.parquet").write_bytes(b"PAR1 not really")
        hub.api.upload_file(
            path_or_fileobj="changed.parquet", path_in_repo="data/train.parquet", repo_id=DATASET, repo_type="dataset"
        )
        echoself(TRAIN.replace("docs/*.md", f"hf://datasets/{DATASET}"), "--hub hub --output-dir there", code=2)
        message = "is out of order" if name == "other order" else "is not a readable Parquet file"
        assert message in capsys.readouterr().err
