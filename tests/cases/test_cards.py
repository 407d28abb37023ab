"""Cards that people publish: the inputs that the Hub would not accept, and models that this program did not train."""

import html
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from localhub.card import check_card
from transformers import GPT2Config, GPT2LMHeadModel

from echoself_action.checkpoint.metadata import Metadata
from echoself_action.checkpoint.model_folder import read_model_folder
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.hub.cards.hub_values import LICENSES
from echoself_action.hub.client import open_hub
from echoself_action.markdown import escaped
from echoself_action.report.descriptions import release_notes

from ..conftest import SCENES, SMALL, Cli
from ..formats import nanecho_files
from ..formats.foreign_files import gpt2_weights, nanogpt_checkpoint, save
from ..hub.secret_kinds import SECRETS
from .test_torch_files import llmc_file, write_lightning

HUB = "--hub hub --repo-id me/model"
DEPLOY = f"deploy {HUB} --checkpoint ckpt.pt"
CYCLE = f"cycle {HUB} --tokenizer bytes --gate none {SMALL}"
USE = "<!-- echoself:use -->\n<!-- /echoself:use -->\n"

# What the Hub would refuse: flags, and what the message names. `card` is written to card.md.
INVALID_INPUTS = {
    "a license of another list": ("--license gpl-3.0-or-later", "'gpl-3.0-or-later': not a license identifier of the Hub"),
    "a license in capitals": ("--license MIT", "'MIT': not a license identifier of the Hub (the closest one is mit)"),
    "a name of a license": ("--license my-own", "license: other|--license: 'my-own'"),
    "a name without other": ("--license mit --license-name my-own", "--license-name: only license: other has this input"),
    "a link that is none": ("--license other --license-link the-license", "--license-link: 'the-license'"),
    "a language by its name": ("--language English", "'English': not an ISO 639 code"),
    "a language in capitals": ("--language EN", "'EN': not an ISO 639 code"),
    "a language with an underscore": ("--language en,pt_pt", "'pt_pt': not an ISO 639 code"),
    "two letters that are no language": ("--language en,xx", "'xx': not an ISO 639 code"),
}
INVALID_TEMPLATES = {
    "a license in the template": (f"---\nlicense: my-own\n---\n{USE}", "invalid front matter: license: 'my-own' is not"),
    "a language in the template": ("---\nlanguage: [en, Deutsch]\n---\n", "invalid front matter: language: 'Deutsch' is not"),
    "Norwegian without quotes": ("---\nlanguage: no\n---\n", "language: False is YAML reads no as false"),
    "front matter that is not YAML": ("---\nlicense: [mit\n---\n", "has invalid front matter: while parsing"),
    "front matter that is a list": ("---\n- mit\n---\n", "it is not a mapping of keys to values"),
    "front matter without an end": ("---\nlicense: mit\n\n# Ours\n", "it is not closed by a line with ---"),
    "the template of huggingface_hub": (
        "---\n{{ card_data }}\n---\n\n# {{ model_id | default('Model', true) }}\n",
        "which are not replaced: {{ card_data }}, {{ model_id | default('Model', true) }}",
    ),
    "a section that does not exist": ("<!-- echoself:metrics --><!-- /echoself:metrics -->", "unknown or unpaired markers"),
    "a section without an end": ("<!-- echoself:use -->\n", "unknown or unpaired markers"),
    "text that is not UTF-8": ("# Ours\n\ncaf\xe9\n".encode("latin-1"), "is not text in UTF-8: byte 11 is 0xe9"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "is not text in UTF-8"),
}
# Only the Hub itself knows: language codes of three letters, tags, names of repos.
REFUSED_BY_THE_HUB = {
    "tags that are text": ("---\ntags: gpt2\n---\n", '"tags" must be an array'),
    "a tag that is too long": (f"---\ntags: [{'x' * 101}]\n---\n", '"tags" must contain text of up to 100 characters'),
    "a dataset that is no repo id": ("---\ndatasets: [my texts]\n---\n", '"datasets" must contain repo ids'),
    "a base model that is a path": ("---\nbase_model: /home/me/gpt2\n---\n", '"base_model" must contain repo ids'),
}


def write(name: str, content: str | bytes) -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("command", [DEPLOY, f"{DEPLOY} --dry-run", CYCLE, f"{CYCLE} --dry-run"])
@pytest.mark.parametrize(("flags", "message"), INVALID_INPUTS.values(), ids=INVALID_INPUTS)
def test_an_input_that_the_hub_would_refuse_is_refused_before_any_work(
    echoself: Cli, capsys: pytest.CaptureFixture[str], command: str, flags: str, message: str
) -> None:
    save(nanogpt_checkpoint(), Path("ckpt.pt"))
    echoself(command, flags, code=2)
    logged = capsys.readouterr().err
    assert any(part in logged for part in message.split("|")), logged
    assert not Path("echoself-model").exists()
    assert not Path("hub").exists()


@pytest.mark.parametrize("command", [DEPLOY, f"{DEPLOY} --dry-run", f"{CYCLE} --dry-run"])
@pytest.mark.parametrize(("card", "message"), INVALID_TEMPLATES.values(), ids=INVALID_TEMPLATES)
def test_a_template_that_can_not_be_a_card_is_refused_before_any_work(
    echoself: Cli, capsys: pytest.CaptureFixture[str], command: str, card: str | bytes, message: str
) -> None:
    save(nanogpt_checkpoint(), Path("ckpt.pt"))
    write("card.md", card)
    echoself(command, "--card card.md", code=2)
    assert message in capsys.readouterr().err
    assert not Path("echoself-model").exists()
    assert not Path("hub").exists()


@pytest.mark.parametrize("command", [DEPLOY, f"{DEPLOY} --dry-run", f"{CYCLE} --dry-run"])
@pytest.mark.parametrize(("card", "message"), REFUSED_BY_THE_HUB.values(), ids=REFUSED_BY_THE_HUB)
def test_the_hub_checks_the_card_before_any_work(
    echoself: Cli, capsys: pytest.CaptureFixture[str], command: str, card: str, message: str
) -> None:
    save(nanogpt_checkpoint(), Path("ckpt.pt"))
    write("card.md", card)
    echoself(command, "--card card.md", code=2)
    logged = capsys.readouterr().err
    assert f"does not accept the model card: {message}" in logged
    assert "Nothing was done" in logged
    assert not Path("echoself-model").exists()


def test_all_invalid_inputs_of_a_card_are_reported_at_once(echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    write("card.md", "---\nlicense: mine\nlanguage: Deutsch\n---\n<!-- echoself:usage -->{{ x }}")
    echoself(DEPLOY, "--license MIT --language English,Deutsch --card card.md --license-name mine", code=2)
    logged = capsys.readouterr().err
    for part in (
        *("--license: 'MIT'", "'English'", "'Deutsch'", "license: 'mine' is", "language: 'Deutsch' is"),
        *("unpaired markers", "{{ x }}", "7 inputs are invalid"),
    ):
        assert part in logged, part


def test_a_secret_in_a_template_is_refused_before_any_work(echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    write("card.md", f"{USE}\n{SECRETS['hugging face']}\n")
    echoself(CYCLE, "--card card.md", code=3)
    assert "card.md, line" in capsys.readouterr().err
    assert not Path("echoself-model").exists()


def test_other_licenses_and_tags_of_languages_are_published(echoself: Cli) -> None:
    save(nanogpt_checkpoint(), Path("ckpt.pt"))
    link = "https://example.com/license"
    echoself(DEPLOY, f"--license other --license-name my-own-1.0 --license-link {link} --language en,pt-BR,deu")
    front = front_matter()
    assert (front["license"], front["license_name"], front["license_link"]) == ("other", "my-own-1.0", link)
    assert front["language"] == ["en", "pt", "deu"]
    assert front["language_bcp47"] == ["pt-BR"]
    echoself(DEPLOY, "--license mit --language en")
    front = front_matter()
    assert front["license"] == "mit"
    assert not {"license_name", "license_link", "language_bcp47"} & front.keys()


def test_norwegian_in_the_yaml_file_is_a_language(echoself: Cli) -> None:
    save(nanogpt_checkpoint(), Path("ckpt.pt"))
    write("echoself.yml", "language: [no, en]\n")
    echoself(DEPLOY, "--config echoself.yml")
    assert front_matter()["language"] == ["no", "en"]


@pytest.mark.parametrize("text", ["`{{ x }}`", "```yaml\ntoken: {{ x }}\n```", "${{ secrets.X }}", "{ x }"])
def test_braces_that_are_no_placeholders_are_kept(echoself: Cli, text: str) -> None:
    save(nanogpt_checkpoint(), Path("ckpt.pt"))
    write("card.md", f"# Ours\n\n{text}\n\n{USE}")
    echoself(DEPLOY, "--card card.md")
    assert text in published("README.md")


def test_the_local_hub_accepts_every_license() -> None:
    for name in LICENSES:
        assert check_card(f"---\nlicense: {name}\n---\n", "model") == ([], []), name


FURTHER = "--max-iters 2 --eval-interval 2 --batch-size 4 --device cpu --dtype float32 --learning-rate 1e-4 --gate none"
FURTHER += " --introspection false"  # which takes seconds; tests/modes/test_nanecho.py has it
STRANGER = "/home/stranger/secret-project"


def stock_folder(folder: Path, **files: Any) -> Path:
    """What transformers saves, with the traces of the machine that older versions leave in it."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 257, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=256, eos_token_id=256)).save_pretrained(folder)
    make_tokenizer("bytes", lambda: iter(())).save(folder)
    paths = {"name_or_path": STRANGER, "tokenizer_file": f"{STRANGER}/tokenizer.json", "special_tokens_map_file": STRANGER}
    for name, traces in (("config.json", {"_name_or_path": STRANGER}), ("tokenizer_config.json", paths)):
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(values | traces))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def nanogpt(**changes: Any) -> str:
    save(nanogpt_checkpoint(vocab_size=257) | changes, Path("from/ckpt.pt"))
    return "--checkpoint from/ckpt.pt --tokenizer bytes"


def nanogpt_without_vocabulary() -> str:
    save(nanogpt_checkpoint(), Path("from/ckpt.pt"))
    return "--checkpoint from/ckpt.pt"


def nanogpt_of_characters() -> str:
    letters = sorted({letter for scene in SCENES for letter in scene.read_text()})
    save(nanogpt_checkpoint(vocab_size=len(letters)), Path("from/ckpt.pt"))
    names = {letter: number for number, letter in enumerate(letters)}
    Path("from/meta.pkl").write_bytes(
        pickle.dumps({"vocab_size": len(letters), "stoi": names, "itos": dict(enumerate(letters))})
    )
    return "--checkpoint from/ckpt.pt"


def nanecho(layout: str) -> str:
    content = nanecho_files.nanecho_checkpoint(layout, nanecho_files.state_dict(vocab_size=257), vocab_size=257)
    save(content, Path("from/echo.pt"))
    return "--checkpoint from/echo.pt --tokenizer bytes"


def llmc() -> str:
    Path("from").mkdir()
    llmc_file(Path("from/model_00000250.bin"))
    return "--checkpoint from/model_00000250.bin"


def lightning() -> str:
    Path("from").mkdir()
    write_lightning(Path("from/last.ckpt"))
    return "--checkpoint from/last.ckpt"


def state_dict_alone() -> str:
    weights = {name.removeprefix("transformer."): tensor for name, tensor in gpt2_weights(linear=True).items()}
    save(weights, Path("from/weights.pt"))
    return "--checkpoint from/weights.pt --n-head 2"


def folder() -> str:
    return f"--checkpoint {stock_folder(Path('from/model'))}"


def trainer_checkpoint() -> str:
    losses = [{"loss": 3.0, "step": 500}, {"eval_loss": 2.5, "step": 500}]
    state = {"global_step": 500, "best_metric": 2.5, "log_history": losses}
    return f"--checkpoint {stock_folder(Path('from/results/checkpoint-500'), trainer_state=state)}"


@dataclass(frozen=True)
class Import:
    """A checkpoint of another program: `write` makes it and returns the flags that name it.

    `said` is what the card says of its training. `has_state`: its optimizer state is imported, and so published. `has_words`:
    its tokenizer is known.
    """

    write: Callable[[], str]
    source: str
    said: tuple[str, ...] = ()
    has_state: bool = False
    has_words: bool = True


TRACES = ("_name_or_path", "transformers_version", "special_tokens_map_file")
RECORDED = "as its program measured it on its own text"
BATCH = "| Batch size | 4 sequences x 2 gradient accumulation steps |"
IMPORTS = {
    "nanoGPT": Import(
        nanogpt,
        "ckpt.pt (nanoGPT)",
        ("| Steps before the import | 7 |", f"| Validation loss in that file | 2.5000, {RECORDED} |", BATCH),
        has_state=True,
    ),
    "nanoGPT without vocabulary": Import(
        nanogpt_without_vocabulary, "ckpt.pt (nanoGPT)", ("| Tokens seen before the import | 896 |",), True, has_words=False
    ),
    "nanoGPT of characters": Import(nanogpt_of_characters, "ckpt.pt (nanoGPT)", has_state=True),
    "nanoGPT without optimizer and settings": Import(lambda: nanogpt(optimizer={}, config={}), "ckpt.pt (nanoGPT)"),
    "nanoGPT that was never evaluated": Import(
        lambda: nanogpt(best_val_loss=1e9), "ckpt.pt (nanoGPT)", ("| Steps before the import | 7 |",), True
    ),
    "NanEcho": Import(
        lambda: nanecho("train_nanecho"),
        "echo.pt (NanEcho train_nanecho)",
        ("| Steps before the import | 40 |", f"| Validation loss in that file | 2.5000, {RECORDED} |"),
        has_state=True,
    ),
    "NanEcho's cache": Import(
        lambda: nanecho("cache"), "echo.pt (NanEcho cache)", (f"| Training loss in that file | 2.4000, {RECORDED} |",), True
    ),
    "nanoGPT with an optimizer of one group": Import(
        lambda: nanogpt(optimizer={"state": {0: {"momentum": torch.zeros(1)}}, "param_groups": [{"params": [0]}]}),
        "ckpt.pt (nanoGPT)",
        ("| Optimizer | optimizer state not imported: ",),
    ),
    "nanoGPT with a dataset on its machine": Import(
        lambda: nanogpt(config={"dataset": f"{STRANGER}/data", "batch_size": 4}),
        "ckpt.pt (nanoGPT)",
        has_state=True,
    ),
    "llm.c": Import(llmc, "model_00000250.bin (", ("| Steps before the import | 250 |",), has_words=False),
    "Lightning": Import(lightning, "last.ckpt (", ("| Steps before the import | 7 |",), has_words=False),
    "a state dict": Import(state_dict_alone, "weights.pt (", has_words=False),
    "a folder of transformers": Import(folder, "model/model.safetensors (transformers)"),
    "a checkpoint of transformers' Trainer": Import(
        trainer_checkpoint, "checkpoint-500/model.safetensors (transformers Trainer)", ("| Steps before the import | 500 |",)
    ),
}


@dataclass(frozen=True)
class Places:
    """All that a publish says about a model."""

    card: str
    facts: Metadata
    files: str
    summary: str
    page: str

    def __str__(self) -> str:
        return "\n".join((self.card, self.facts.model_dump_json(), self.files, self.summary, html.unescape(self.page)))


def said(summary: Path) -> Places:
    names = ("config.json", "generation_config.json", "tokenizer_config.json")
    return Places(
        published("README.md"),
        Metadata.model_validate_json(published("training_metadata.json")),
        "\n".join(published(name) for name in names),
        summary.read_text(),
        Path("echoself-model/report.html").read_text(),
    )


def has_branch() -> bool:
    with open_hub("hub", None) as hub:
        return "training-state" in {branch.name for branch in hub.api.list_repo_refs("me/model").branches}


def require_true(places: Places) -> None:
    """What must not be said of any model: figures that nobody has, paths of a machine, a branch that does not exist."""
    for wrong in (
        "x None",
        "None x",
        "| None |",
        "<td>None</td>",
        STRANGER,
        "_name_or_path",
        "transformers_version",
        "Architecture(",
    ):
        assert wrong not in str(places), wrong
    assert ("branch `training-state`" in places.card) <= has_branch()
    assert ("selected by a hash of their content" in places.card) == (places.facts.val_loss is not None)
    notes = places.facts.imported_from.optimizer_notes if places.facts.imported_from else []
    for label, said in (*(("Assumed", one) for one in places.facts.assumptions), *(("Optimizer", one) for one in notes)):
        assert f"| {label} | {escaped(said)} |" in places.card
        assert f"| {label} | {escaped(said)} |" in places.summary
        assert said in html.unescape(places.page)


def run_snippet(card: str, folder: Path) -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(snippet.replace("me/model", str(folder)))  # noqa: S102


@pytest.mark.parametrize("name", IMPORTS)
def test_nothing_untrue_is_said_of_an_imported_model(echoself: Cli, tmp_path: Path, name: str) -> None:
    case = IMPORTS[name]
    outputs = echoself(f"deploy {HUB}", case.write())
    places = said(tmp_path / "summary.md")
    require_true(places)
    card, facts = places.card, places.facts
    assert f"imported from `{case.source}" in card
    assert "without further training" in card
    assert "trained and published" not in str(places)
    assert "This model has not been evaluated by echoself-action." in card
    assert "Training time" not in card
    assert "author =" not in card
    assert all(part in card for part in case.said), card
    assert (facts.train_loss, facts.val_loss, facts.best_val_loss, facts.tokens_per_second) == (None,) * 4
    assert facts.is_import
    assert facts.architecture == json.loads(published("config.json"))["model_type"]
    assert [outputs[loss] for loss in ("train_loss", "val_loss", "best_val_loss", "bits_per_byte")] == [""] * 4
    assert "| Imported from |" in places.summary
    assert "<summary>Origin</summary>" in places.page
    assert (has_branch(), "branch `training-state`" in card) == (case.has_state, case.has_state and case.has_words)
    assert "model-index" not in front_matter()
    assert "base_model" not in front_matter()
    run_snippet(card, Path(outputs["model_dir"]))
    workflow = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    assert bool(workflow) == case.has_words
    assert ("with `mode: cycle`" in places.summary) == case.has_words
    if not workflow:
        return
    step = yaml.safe_load(workflow[0])[-1]["with"]
    assert step.pop("hf_token")
    flags = [f"--{key.replace('_', '-')} {value}" for key, value in step.items() if key != "mode"]
    before = facts
    echoself(step["mode"], *flags, f"--hub hub --output-dir further {FURTHER}")
    card, facts = published("README.md"), Metadata.model_validate_json(published("training_metadata.json"))
    assert f"imported from `{case.source}" in card
    assert "trained further and published with" in card
    assert "since the import" in card
    assert all(part in card for part in case.said if part != BATCH and "Batch size" not in part)
    assert not facts.is_import
    assert facts.is_trained_here
    assert facts.imported_from == before.imported_from
    assert facts.assumptions == before.assumptions
    assert facts.step == before.step + 2
    assert facts.parameters == before.parameters
    assert facts.val_loss is not None
    assert "branch `training-state`" in card
    assert "model-index" in front_matter()


@dataclass(frozen=True)
class Start:
    """A pretrained start: the flags of `init_from`, what the card calls it, and the base model on the Hub."""

    write: Callable[[], str]
    source: str
    base_model: str | None = None


def repo_of_a_stranger() -> str:
    with open_hub("hub", None) as hub:
        hub.api.create_repo("someone/small-gpt2")
        hub.api.upload_folder(folder_path=stock_folder(Path("from/model")), repo_id="someone/small-gpt2")
    return "--init-from someone/small-gpt2"


def pretrained_file() -> str:
    return nanogpt().replace("--checkpoint", "--init-from")


STARTS = {
    "a folder": Start(lambda: f"--init-from {stock_folder(Path('from/model'))}", "model"),
    "a repo on the Hub": Start(repo_of_a_stranger, "someone/small-gpt2@", "someone/small-gpt2"),
    "a file of nanoGPT": Start(pretrained_file, "ckpt.pt"),
}


@pytest.mark.parametrize("name", STARTS)
def test_nothing_untrue_is_said_of_a_pretrained_start(echoself: Cli, tmp_path: Path, name: str) -> None:
    case = STARTS[name]
    echoself(f"cycle {HUB} --data docs/*.md", case.write(), FURTHER)
    places = said(tmp_path / "summary.md")
    require_true(places)
    assert f"initialised from `{case.source}" in places.card
    assert "trained further and published with" in places.card
    assert "| Steps | 2 |" in places.card
    assert "trained on a single" not in places.card
    assert "Imported from" not in str(places)
    assert f"| Started from | {escaped(case.source)}" in places.summary
    assert "<summary>Origin</summary>" in places.page
    assert front_matter().get("base_model") == case.base_model
    assert places.facts.imported_from is None


@pytest.mark.parametrize("published_before", [False, True])
def test_a_pretrained_model_that_was_not_trained_further_is_called_so(
    echoself: Cli, tmp_path: Path, published_before: bool
) -> None:
    if published_before:
        echoself(f"cycle {HUB} --tokenizer bytes --data docs/*.md --output-dir before {SMALL}")
        assert "model-index" in front_matter()
    echoself(f"train --init-from {stock_folder(Path('from/model'))} --data docs/*.md", FURTHER.replace("--gate none", ""))
    echoself(f"deploy {HUB} --checkpoint echoself-model/checkpoint-0 --gate none")
    places = said(tmp_path / "summary.md")
    require_true(Places(places.card, places.facts, places.files, "", places.page))
    assert "initialised from `model`" in places.card
    assert "without further training" in places.card
    assert "| Steps |" not in places.card
    assert "model-index" not in front_matter()  # not the results of the model before


def test_a_model_folder_without_metadata_is_published_without_traces_of_its_machine(echoself: Cli, tmp_path: Path) -> None:
    stock_folder(Path("echoself-model/checkpoint-0"))  # as older versions pulled a model of another program
    echoself(f"deploy {HUB}")
    card = published("README.md")
    assert "Its training is not recorded." in card
    assert "trained and published" not in card
    assert "branch `training-state`" not in card
    files = "".join(published(name) for name in ("config.json", "generation_config.json", "tokenizer_config.json"))
    assert STRANGER not in files
    assert not [trace for trace in TRACES if trace in files]
    run_snippet(card, Path("echoself-model/checkpoint-0"))
    echoself("train --data docs/*.md", FURTHER.replace("--gate none", ""))
    echoself(f"deploy {HUB} --gate none")
    facts = Metadata.model_validate_json(published("training_metadata.json"))
    assert "imported from `a model folder`" in published("README.md")
    assert (facts.step, facts.is_trained_here) == (2, True)


def test_a_model_that_another_program_published_is_called_by_its_repo(echoself: Cli) -> None:
    repo_of_a_stranger()
    echoself("pull --hub hub --repo-id someone/small-gpt2")
    echoself(f"deploy {HUB}")
    card = published("README.md")
    assert "imported from `someone/small-gpt2 at " in card
    assert "without further training" in card
    assert STRANGER not in published("config.json") + published("tokenizer_config.json")


def test_an_import_of_an_older_version_has_the_losses_of_its_file(echoself: Cli) -> None:
    outputs = echoself("pull", nanogpt())
    path = Path(outputs["model_dir"]) / "training_metadata.json"
    values = json.loads(path.read_text())
    origin = {name: values["imported_from"][name] for name in ("layout", "file", "fingerprint", "remarks")}
    path.write_text(json.dumps(values | {"imported_from": origin, "train_loss": 1.5, "best_val_loss": 2.5}))
    echoself(f"deploy {HUB}")
    card = published("README.md")
    assert f"| Training loss in that file | 1.5000, {RECORDED} |" in card
    assert f"| Validation loss in that file | 2.5000, {RECORDED} |" in card
    assert "| Steps before the import | 7 |" in card
    facts = Metadata.model_validate_json(published("training_metadata.json"))
    assert (facts.train_loss, facts.best_val_loss) == (None, None)


@pytest.mark.parametrize("mode", [f"deploy {HUB} --dry-run", "pull", f"deploy {HUB} --create-pr"])
def test_each_summary_has_the_source_of_an_import(echoself: Cli, tmp_path: Path, mode: str) -> None:
    if "create-pr" in mode:
        with open_hub("hub", None) as hub:
            hub.api.create_repo("me/model")
    case = IMPORTS["nanoGPT with an optimizer of one group"]
    echoself(mode, case.write())
    summary = (tmp_path / "summary.md").read_text()
    assert f"| Imported from | {escaped(case.source)} |" in summary
    assert all(part in summary for part in case.said)
    assert "trained and published" not in summary


def test_release_notes_of_an_import_have_its_source_and_no_losses_of_ours(echoself: Cli) -> None:
    outputs = echoself("pull", nanogpt(config={}))
    folder = read_model_folder(Path(outputs["model_dir"]))
    notes = release_notes("http://hub/me/model", "v7", "http://hub/me/model/commit/c0ffee", folder, "it is the first")
    assert "| imported from | ckpt.pt (nanoGPT) |" in notes
    assert f"| validation loss in that file | 2.5000, {RECORDED} |" in notes
    assert "| validation loss |" not in notes
    assert "| tokens seen" not in notes


def test_the_page_of_an_import_has_no_curves_of_another_run(echoself: Cli) -> None:
    echoself(f"train --tokenizer bytes --data docs/*.md {SMALL}")
    assert "<h2>Curves</h2>" in Path("echoself-model/report.html").read_text()
    echoself(f"deploy {HUB}", nanogpt())
    assert "<h2>Curves</h2>" not in Path("echoself-model/report.html").read_text()


REPORTED = {
    "a02_build_nanogpt/model_05000.pt": "model_05000.pt",
    "a05_old_nanogpt/ckpt.pt": "ckpt.pt (nanoGPT)",
    "a07b_opt_3groups/ckpt.pt": "ckpt.pt (nanoGPT)",
    "a25_old_optimizer/ckpt.pt": "ckpt.pt (nanoGPT)",
    "b02_sharded": "b02_sharded/",
    "b03_vocabmerges": "b03_vocabmerges/",
    "b15_bert": "b15_bert/",
    "b20_results/checkpoint-1500": "checkpoint-1500/",
}


@pytest.mark.parametrize("name", REPORTED)
def test_nothing_untrue_is_said_of_a_reported_checkpoint(echoself: Cli, cases: Path, tmp_path: Path, name: str) -> None:
    outputs = echoself(f"deploy {HUB} --checkpoint {cases / 'checkpoints' / name}")
    places = said(tmp_path / "summary.md")
    require_true(places)
    assert f"imported from `{REPORTED[name]}" in places.card
    assert "without further training" in places.card
    assert str(cases) not in places.card + places.files + places.facts.model_dump_json()
    run_snippet(places.card, Path(outputs["model_dir"]))


def published(name: str, repo_id: str = "me/model", revision: str = "main") -> str:
    with open_hub("hub", None) as hub:
        return Path(hub.api.hf_hub_download(repo_id, name, revision=revision)).read_text()


def front_matter() -> dict[str, object]:
    match = re.match(r"---\n(.*?)\n---\n", published("README.md"), re.DOTALL)
    assert match
    found: dict[str, object] = yaml.safe_load(match[1])
    return found
