"""The pages for a browser: what they show, to whom, and that texts of users stay texts."""

import subprocess
import time
from html.parser import HTMLParser

import pytest
from huggingface_hub import HfApi
from localhub import LocalHub

REPO = "me/model"
EVIL = "</pre><script>alert('a')</script><img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """The text, links and elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.links, self.elements, self.attributes = "", [], [], set()
        self.feed(text)

    def handle_data(self, data):
        if self.elements[-1:] != ["style"]:
            self.text += data

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name == "href"]


@pytest.fixture
def visit(hub: LocalHub, ask):
    """The page at a path, as a browser gets it."""

    def get(path: str, status: int = 200, url: str = hub.url) -> Page:
        answer = ask(url, "GET", path, headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})
        assert answer.status == status
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "www-authenticate" not in answer.headers  # a browser would ask for a password
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "script-src" not in policy
        assert "unsafe" not in policy
        return Page(answer.body.decode())

    return get


def test_home_lists_the_repos_that_the_browser_may_read(api, put, visit, guarded, client_of):
    assert "No repos yet" in visit("/").text
    api.create_repo("me/model")
    api.create_repo("me/data", repo_type="dataset", private=True)
    api.create_repo("me/app", repo_type="space", space_sdk="static")
    home = visit("/")
    assert home.links == ["/", "/me/model", "/datasets/me/data", "/spaces/me/app/tree/main"]
    for link in home.links:
        visit(link)
    client_of("token-owner").create_repo("me/secret", private=True)
    assert visit("/", url=guarded.url).links == ["/", "/me/model"]


def test_home_finds_repos_by_their_names_and_says_which_are_private_or_gated(api, put, visit):
    api.create_repo("me/model", private=True)
    api.create_repo("me/other")
    api.update_repo_settings("me/other", gated="auto")
    assert visit("/?search=MODEL").links == ["/", "/me/model"]
    assert "private model" in visit("/?search=model").text
    assert "gated model" in visit("/me/other").text
    nothing = visit("/?search=%22%3E%3Cscript%3E")
    assert ("No repos with this name" in nothing.text, "script" in nothing.elements) == (True, False)


def test_lists_come_in_pages(api, hub, visit):
    for number in range(102):
        (hub.storage.folder / f"models/me/m{number:03}.git/hub").mkdir(parents=True)
        (hub.storage.folder / f"models/me/m{number:03}.git/hub/repo.json").write_text("{}")
    first, second = visit("/"), visit("/?p=1")
    assert "/?p=1" in first.links
    assert (first.links.count("/me/m099"), first.links.count("/me/m100")) == (1, 0)
    assert second.links == ["/", "/me/m100", "/me/m101", "/?p=0"]
    assert "/?search=m1&p=0" in visit("/?search=m1&p=1").links
    assert visit("/?p=9999999999999999999999").links == first.links


@pytest.mark.parametrize(("kind", "home"), [("model", "/me/model"), ("dataset", "/datasets/me/model")])
def test_the_page_of_a_repo_shows_files_and_card(api, put, visit, kind, home):
    api.create_repo(REPO, repo_type=kind)
    put(api, {"README.md": b"# About it", "a/b.txt": b"x", "m.safetensors": b"x" * 2000}, repo_type=kind)
    page = visit(home)
    assert "# About it" in page.text
    assert "2.0 kB, LFS" in page.text
    assert f"{home}/tree/main/a" in page.links
    assert f"{home}/blob/main/m.safetensors" in page.links
    for link in page.links:
        visit(link)


def test_folders_and_files_at_a_revision(api, repo, put, visit, ask, hub):
    put(api, {"a b/ü?#.txt": b"old text", "binary": b"\xff\x00", "big.txt": b"x" * 600_000, "w.bin": b"w"})
    api.create_tag(repo, tag="v/1")
    put(api, {"a b/ü?#.txt": b"new text"})
    folder = visit("/me/model/tree/v%2F1/a%20b")
    (file,) = [link for link in folder.links if "/blob/" in link]
    old = visit(file)
    assert "old text" in old.text
    assert "new text" not in old.text
    (download,) = [link for link in old.links if "/resolve/" in link]
    assert ask(hub.url, "GET", download).body == b"old text"
    assert "new text" in visit(file.replace("v%2F1", "main")).text
    for name, reason in (("binary", "not text"), ("big.txt", "too large"), ("w.bin", "too large")):
        assert reason in visit(f"/me/model/blob/main/{name}").text
    assert "/me/model/tree/v%2F1" in visit("/me/model/tree/main").links
    for path in (
        "tree/none",
        "blob/main/none",
        "blob/main/a%20b",
        "tree/main/none",
        "commits/none",
        "commit/none",
        "discussions/9",
    ):
        visit(f"/me/model/{path}", status=404)
    visit("/me/model/blob/main/..%2Fx", status=422)


def test_commits_and_their_changes(api, repo, put, visit):
    put(api, {"a.txt": b"first\n"}, commit_message="Add a", commit_description="Because of b.")
    commit = put(api, {"a.txt": b"second\n"}, commit_message="Change a")
    page = visit("/me/model/commits/main")
    assert page.text.index("Change a") < page.text.index("Add a") < page.text.index("initial commit")
    assert f"/me/model/commit/{commit}" in page.links
    shown = [visit(link).text for link in page.links if "/commit/" in link]
    assert "-first\n+second" in shown[0]
    assert "Because of b." in shown[1]
    assert {"ins", "del"} <= set(visit(f"/me/model/commit/{commit}").elements)
    assert f"/me/model/commit/{commit}" in visit("/me/model").links  # the newest
    api.create_branch(repo, branch="old/one", revision="main")
    assert "/me/model/commits/old%2Fone" in visit("/me/model/tree/old%2Fone").links
    assert "+*.safetensors filter=lfs" in shown[2]
    put(api, {f"{number}.txt": b"line\n" * 50_000 for number in range(4)})
    newest = next(link for link in visit("/me/model/commits/main").links if "/commit/" in link)
    assert "too large to be shown as a whole" in visit(newest).text


def test_a_large_file_is_not_compared(api, repo, put, visit):
    lines = [f"{number * 7919 % 100_003}\n" for number in range(600_000)]
    put(api, {"a.txt": "".join(lines).encode(), "small.txt": b"before\n"}, commit_message="x")
    changes = {"a.txt": "".join(reversed(lines)).encode(), "small.txt": b"after\n"}
    commit = put(api, changes, create_pr=True, commit_message="Reversed")
    for path in (f"commit/{commit}", "discussions/1"):
        began = time.perf_counter()
        text = visit(f"/me/model/{path}").text
        assert time.perf_counter() - began < 2
        assert "b/a.txt\nThe file is too large to be compared." in text
        assert "-before\n+after" in text


def test_pull_requests_and_discussions(api, repo, put, visit):
    assert "None yet" in visit("/me/model/discussions").text
    api.create_discussion(repo, title="A question", description="How?")
    put(api, {"new.txt": b"proposed\n"}, create_pr=True, commit_message="A proposal")
    listed = visit("/me/model/discussions")
    assert listed.text.index("#2 A proposal") < listed.text.index("#1 A question")
    api.comment_discussion(repo, 1, "So.")
    question = visit("/me/model/discussions/1").text
    assert question.index("opened it") < question.index("How?") < question.index("commented") < question.index("So.")
    api.rename_discussion(repo, 2, new_title="A better name")
    proposal = visit("/me/model/discussions/2")
    assert "changed the title from 'A proposal'" in proposal.text
    assert "committed: A proposal" in proposal.text
    assert "+proposed" in proposal.text
    assert "/me/model/tree/refs%2Fpr%2F2" in proposal.links
    assert "new.txt" in visit("/me/model/tree/refs%2Fpr%2F2").text
    api.merge_pull_request(repo, 2)
    assert "merged" in visit("/me/model/discussions/2").text


def test_texts_of_users_are_not_html(api, repo, put, visit):
    name = "<b>&\"'.txt"
    first = put(api, {"README.md": EVIL.encode(), name: EVIL.encode()}, commit_message=EVIL, commit_description=EVIL)
    api.create_discussion(repo, title=EVIL, description=EVIL)
    put(api, {"b": b"b"}, create_pr=True, commit_message=EVIL)
    api.rename_discussion(repo, 2, new_title=EVIL + "2")
    paths = ["", "/tree/main", "/blob/main/README.md", "/blob/main/%3Cb%3E%26%22%27.txt", "/commits/main", f"/commit/{first}"]
    for path in [*paths, "/discussions", "/discussions/1", "/discussions/2"]:
        page = visit(f"/me/model{path}")
        assert not {"script", "img", "b"} & set(page.elements) - ({"b"} if "/discussions/" in path else set())
        assert page.attributes <= {"href", "lang", "charset", "name", "content"}
        assert "<script>alert('a')</script>" in page.text
    assert "<script>" in visit("/me/model/tree/%3Cscript%3E", status=404).text


def test_a_private_repo_does_not_exist_for_a_browser(guarded, client_of, visit):
    client_of("token-owner").update_repo_settings(REPO, private=True)
    texts = set()
    for name in ("me/model", "me/missing"):
        for path in (
            "",
            "/tree/main",
            "/blob/main/.gitattributes",
            "/commits/main",
            "/commit/main",
            "/discussions",
            "/discussions/1",
        ):
            texts.add(visit(f"/{name}{path}", status=404, url=guarded.url).text)
    assert len(texts) == 1


def test_a_gated_repo_shows_the_names_of_its_files_only(guarded, client_of, visit, put):
    owner = client_of("token-owner")
    commit = put(owner, {"README.md": b"the content", "a.txt": b"the content"})
    put(owner, {"b.txt": b"the content"}, create_pr=True)
    owner.update_repo_settings(REPO, gated="auto")
    for path in ("", "/blob/main/a.txt", f"/commit/{commit}", "/discussions/1"):
        page = visit(f"/me/model{path}", url=guarded.url)
        assert "This repo is gated" in page.text
        assert "the content" not in page.text
    assert "a.txt" in visit("/me/model", url=guarded.url).text


def test_pages_of_names_that_can_not_exist(visit):
    for path in ("/datasets/x", "/api/x/discussions", "/me/..", "/me/a..b", "/me/%00", "/%FF/x"):
        visit(path, status=404)


def test_the_old_name_of_a_repo_leads_to_its_page(api, repo, ask, hub):
    api.move_repo(repo, "me/renamed")
    answer = ask(hub.url, "GET", "/me/model/commits/main")
    assert (answer.status, answer.headers["location"]) == (307, "/me/renamed/commits/main")


def test_the_url_of_a_commit_and_a_pull_request_is_a_page(api: HfApi, repo, hub, visit):
    answer = api.upload_file(repo_id=repo, path_in_repo="a", path_or_fileobj=b"a", create_pr=True)
    for url in (answer.commit_url, answer.pr_url):
        assert url.startswith(f"{hub.url}/me/model/")
        visit(url.removeprefix(hub.url))


def test_text_that_is_not_utf8_in_git_is_shown_with_replacements(api, repo, hub, visit):
    path = hub.storage.folder / "models/me/model.git"
    git = ["git", "-C", str(path), "-c", "user.name=x", "-c", "user.email=x@y", "-c", "i18n.commitEncoding=latin1"]
    tree = subprocess.run([*git, "rev-parse", "main^{tree}"], capture_output=True, check=True).stdout.strip()
    command = [*git, "commit-tree", tree.decode(), "-p", "main"]
    made = subprocess.run(command, input=b"caf\xe9\n", capture_output=True, check=True).stdout.strip().decode()
    subprocess.run([*git, "update-ref", "refs/heads/main", made], check=True)
    assert "caf" in visit("/me/model/commits/main").text
    assert "caf" in visit(f"/me/model/commit/{made}").text
