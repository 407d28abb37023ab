"""Cards that people publish: the inputs that the Hub would not accept, and models that this program did not train."""

import re
from pathlib import Path

import pytest
import yaml
from localhub.card import check_card

from echoself_action.hub.cards.hub_values import LICENSES
from echoself_action.hub.client import open_hub

from ..conftest import SMALL, Cli
from ..formats.foreign_files import nanogpt_checkpoint, save
from ..hub.secret_kinds import SECRETS

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


def published(name: str, repo_id: str = "me/model", revision: str = "main") -> str:
    with open_hub("hub", None) as hub:
        return Path(hub.api.hf_hub_download(repo_id, name, revision=revision)).read_text()


def front_matter() -> dict[str, object]:
    match = re.match(r"---\n(.*?)\n---\n", published("README.md"), re.DOTALL)
    assert match
    found: dict[str, object] = yaml.safe_load(match[1])
    return found
