"""The model card of a real publish, shown in a browser."""

import re
from pathlib import Path

from echoself_action.hub.client import open_hub

from ..conftest import SMALL, Cli
from .github_page import look_at_markdown

CYCLE = f"cycle --hub hub --repo-id an-organisation/a-model-with-a-rather-long-name --tokenizer bytes --gate none {SMALL}"


def test_the_card_fits_a_phone_and_its_links_lead_to_published_files(echoself: Cli, tmp_path: Path) -> None:
    echoself(CYCLE)
    with open_hub("hub", None) as hub:
        repo_id = "an-organisation/a-model-with-a-rather-long-name"
        files = hub.api.list_repo_files(repo_id)
        card = Path(hub.api.hf_hub_download(repo_id, "README.md")).read_text()
    text = re.sub(r"\A---\n.*?^---\n", "", card, flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert [link for link in links if not link.startswith("https://github.com/") and link not in files] == []
    page = look_at_markdown(text, "light", 390, tmp_path, "card")
    assert page.facts["cut"] == page.facts["errors"] == []
    assert "`" not in page.facts["text"]
    assert "echoself:" not in page.facts["text"]
