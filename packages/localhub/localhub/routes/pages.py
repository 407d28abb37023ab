"""Pages for a browser: the repos, and of each its files, card, commits, pull requests and discussions. They change nothing.

A browser sends no token: it is shown public repos, and all repos of a Hub without tokens. Texts of users are shown as text.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html import escape
from itertools import groupby, islice
from typing import TypeVar
from urllib.parse import quote

import pygit2
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from .. import discussions
from ..card import read_front_matter
from ..discussions import Discussion
from ..html import Html, element, html_response, link
from ..names import KINDS, RepoName, parse_path
from ..patches import patches
from ..refusal import Refusal, repo_not_found
from ..repository import Repository
from ..spaces import STATIC
from ..storage import RepoMissingError
from ..tree import Entry, find_entry, find_file, list_entries
from ..web import may_read_files, open_repo, parameter, state_of
from .sites import site_url

PAGE_SIZE = 100
MAX_SHOWN = 512 * 1024  # bytes of a file or a diff
_REDIRECTS = range(300, 400)
T = TypeVar("T")


def home(request: Request) -> Response:
    """All repos that the request may read, by kind and name; with `search`, those with this text in their id."""
    search = request.query_params.get("search", "").strip()
    listed_names = (name for kind in KINDS for name in state_of(request).storage.names(kind) if _is_listed(request, name))
    names = [name for name in listed_names if search.lower() in name.id.lower()]
    start, shown, more = _part(request, names)
    items = [element("li", link(name.resource, _overview(name)), element("small", _what(request, name))) for name in shown]
    intro = element(
        "p", "Use it with huggingface_hub: ", element("code", f"export HF_ENDPOINT={str(request.base_url).rstrip('/')}")
    )
    listed = element("ul", *items) if items else element("p", "No repos with this name." if search else "No repos yet.")
    field = Html(f'<input type="search" name="search" aria-label="Search by name" value="{escape(search)}">')
    form = element("form", field, " ", element("button", "Search"), action="/")
    more_links = _more(f"/?search={quote(search, errors='replace')}" if search else "/", start, more)
    title = f"{len(names)} repo{'' if len(names) == 1 else 's'}"
    return html_response("localhub", element("h1", title), form, listed, more_links, intro)


def overview(request: Request) -> Response:
    """Files and card. The page of a static Space is its app, as on the Hub; other apps do not run here."""
    repository = _open(request)
    if repository.name.kind != "space":
        return _folder(request, "main", "")
    if (sdk := _sdk(repository)) == STATIC:
        return RedirectResponse(site_url(request, repository.name), 302)
    return _folder(request, "main", "", element("p", f"This Hub does not run Spaces with the SDK {sdk}: only static ones."))


def folder(request: Request) -> Response:
    path = parameter(request, "path").strip("/") if "path" in request.path_params else ""
    return _folder(request, parameter(request, "revision"), parse_path(path) if path else "")


def _folder(request: Request, revision: str, path: str, *notes: str) -> Response:
    repository = _open(request)
    name, commit = repository.name, repository.resolve(revision)
    entries = list(list_entries(repository, commit, path, recursive=False))
    start, shown, more = _part(request, entries)
    here = f"{_url(name)}/tree/{_quoted(revision)}"
    refs = [*repository.refs("refs/heads/"), *repository.refs("refs/tags/")]
    others = [element("li", link(ref.name, f"{_url(name)}/tree/{_quoted(ref.name)}")) for ref in refs]
    choice = element("details", element("summary", f"{revision} at {str(commit.id)[:7]}"), element("ul", *others))
    newest = element("p", _commit_link(name, commit), " ", element("small", f"{commit.author.name}, {_date(commit)}"))
    history = [] if revision == "main" else [link(f"Commits of {revision}", f"{_url(name)}/commits/{_quoted(revision)}")]
    files = element("ul", *(_entry(name, revision, entry) for entry in shown))
    trail = [element("h2", link(name.name, here), *_trail(here, path))] if path else []
    position = f"{here}/{_path(path)}" if path else here
    readme = find_entry(repository, commit, "README.md") if not path else None
    card = [element("h2", "Card"), _content(request, repository, readme)] if readme and not readme.is_folder else []
    return _repo_page(
        request,
        repository,
        path or name.id,
        *notes,
        choice,
        newest,
        *history,
        *trail,
        files,
        _more(position, start, more),
        *card,
    )


def file(request: Request) -> Response:
    repository = _open(request)
    name, revision, path = repository.name, parameter(request, "revision"), parse_path(parameter(request, "path"))
    entry = find_file(repository, repository.resolve(revision), path)
    here = f"{_url(name)}/tree/{_quoted(revision)}"
    trail = element("h2", link(name.name, here), *_trail(here, path))
    download = link("Download", f"{_url(name)}/resolve/{_quoted(revision)}/{_path(path)}")
    about = element("p", f"{_bytes(entry.size)}{', LFS' if entry.pointer else ''}, {entry.content_oid} ", download)
    return _repo_page(request, repository, path, trail, about, _content(request, repository, entry))


def commits(request: Request) -> Response:
    repository = _open(request)
    name, revision = repository.name, parameter(request, "revision")
    position = f"{_url(name)}/commits/{_quoted(revision)}"
    start = _start(request)
    found = list(islice(repository.history(repository.resolve(revision)), start, start + PAGE_SIZE + 1))
    items = [
        element(
            "li",
            _commit_link(name, commit),
            element("small", f"{commit.author.name}, {_date(commit)}, {str(commit.id)[:7]}"),
        )
        for commit in found[:PAGE_SIZE]
    ]
    more = _more(position, start, len(found) > PAGE_SIZE)
    return _repo_page(
        request, repository, f"Commits of {revision}", element("h2", f"Commits of {revision}"), element("ul", *items), more
    )


def commit(request: Request) -> Response:
    repository = _open(request)
    found = repository.resolve(parameter(request, "commit"))
    parents = found.parents
    difference = repository.git.diff(parents[0], found) if parents else found.tree.diff_to_tree(swap=True)
    about = element("p", f"{found.author.name}, {_date(found)}, {found.id}")
    message = found.raw_message.decode("utf-8", "replace").partition("\n")[2].strip()
    description = [element("pre", message)] if message else []
    files = link("Files", f"{_url(repository.name)}/tree/{found.id}")
    changes = _difference(request, repository, difference)
    return _repo_page(
        request, repository, _title(found), element("h2", _title(found)), about, *description, element("p", files), changes
    )


def discussion_list(request: Request) -> Response:
    repository = _open(request)
    here = f"{_url(repository.name)}/discussions"
    start, shown, more = _part(request, discussions.list_discussions(repository))
    items = [
        element(
            "li",
            link(f"#{one.num} {one.title}", f"{here}/{one.num}"),
            element("small", f"{'pull request' if one.is_pull_request else 'discussion'}, {one.status}, by {one.author}"),
        )
        for one in shown
    ]
    listed = element("ul", *items) if items else element("p", "None yet.")
    title = "Pull requests and discussions"
    return _repo_page(request, repository, title, element("h2", title), listed, _more(here, start, more))


def discussion(request: Request) -> Response:
    repository = _open(request)
    found = discussions.find_discussion(repository, request.path_params["number"])
    about = f"{'Pull request' if found.is_pull_request else 'Discussion'} #{found.num}, {found.status}, by {found.author}"
    changes = []
    if found.is_pull_request:
        files = link("Files", f"{_url(repository.name)}/tree/{_quoted(found.ref)}")
        into = found.base.removeprefix("refs/heads/")
        difference = repository.git.diff(repository.commit(found.base_commit), repository.resolve(found.ref))
        shown = _difference(request, repository, difference)
        changes = [element("h2", "Changes"), element("p", f"into {into}: ", files), shown]
    return _repo_page(
        request, repository, found.title, element("h2", found.title), element("p", about), *_events(repository, found), *changes
    )


def _events(repository: Repository, found: Discussion) -> Iterator[Html]:
    """What happened in a discussion, oldest first."""
    events = found.events
    if found.is_pull_request:
        events = sorted([*events, *discussions.commit_events(repository, found)], key=lambda event: str(event["createdAt"]))
    for event in events:
        data, what, text = event["data"], str(event["type"]), ""
        if what == "comment":
            what = "opened it" if event is found.events[0] else "commented"
            text = "This comment is hidden." if data.get("hidden") else str(data["latest"]["raw"])
        elif what == "status-change":
            what = f"changed the status to {data['status']}"
        elif what == "title-change":
            what = f"changed the title from {data['from']!r}"
        elif what == "commit":
            what = f"committed: {data['subject']}"
        when = str(event["createdAt"])[:16].replace("T", " ")
        yield element("p", element("b", str(event["author"]["name"])), f" {what} ", element("small", when))
        if text:
            yield element("pre", text)


def _is_listed(request: Request, name: RepoName) -> bool:
    state = state_of(request)
    account = state.accounts.identify(request)
    try:
        return not state.storage.settings(name).private or bool(account and account.may_read_private(name))
    except RepoMissingError:
        return False  # it was deleted meanwhile


def _sdk(repository: Repository) -> object:
    """What the card of a Space says; None for other repos."""
    if repository.name.kind != "space":
        return None
    return read_front_matter(repository.text(repository.resolve("main"), "README.md")).get("sdk")


def _what(request: Request, name: RepoName) -> str:
    """`model`, `private dataset`, `gated model`."""
    try:
        settings = state_of(request).storage.settings(name)
    except RepoMissingError:
        return name.kind  # it was deleted meanwhile
    return " ".join([*(["private"] if settings.private else []), *(["gated"] if settings.gated else []), name.kind])


def _open(request: Request) -> Repository:
    """Raises Refusal."""
    try:
        return open_repo(request, "read")
    except Refusal as refusal:
        if refusal.status == 400:  # the path names no repo that could exist, so it is no page
            raise repo_not_found(True) from None
        raise


def _repo_page(request: Request, repository: Repository, title: str, *body: str) -> Response:
    name = repository.name
    tabs = element(
        "nav",
        link("Files and card", _overview(name)),
        link("Commits", f"{_url(name)}/commits/main"),
        link("Pull requests and discussions", f"{_url(name)}/discussions"),
        *([link("App", _url(name))] if _sdk(repository) == STATIC else []),
    )
    heading = element("h1", link(name.id, _overview(name)), " ", element("small", _what(request, name)))
    return html_response(f"{title} - {name.id}", heading, tabs, *body)


def _entry(name: RepoName, revision: str, entry: Entry) -> Html:
    what = "tree" if entry.is_folder else "blob"
    label = entry.path.rpartition("/")[2] + ("/" if entry.is_folder else "")
    size = "" if entry.is_folder else f"{_bytes(entry.size)}{', LFS' if entry.pointer else ''}"
    url = f"{_url(name)}/{what}/{_quoted(revision)}/{_path(entry.path)}"
    return element("li", link(label, url), element("small", size))


def _content(request: Request, repository: Repository, entry: Entry) -> Html:
    """The text of a file, or why it is not shown."""
    if not may_read_files(request):
        return element("p", "This repo is gated: its files are shown to accounts with access.")
    if entry.pointer or entry.size > MAX_SHOWN:
        return element("p", "The file is too large to be shown.")
    try:
        return element("pre", repository.git.odb.read(entry.oid)[1].decode())
    except UnicodeDecodeError:
        return element("p", "The file is not text.")


def _difference(request: Request, repository: Repository, difference: pygit2.Diff) -> Html:
    """The changes as a git diff, up to MAX_SHOWN characters."""
    if not may_read_files(request):
        return element("p", "This repo is gated: its changes are shown to accounts with access.")
    shown, size = [], 0
    for patch in patches(repository, difference):
        shown.append(patch[: MAX_SHOWN - size])
        size += len(patch)
        if size > MAX_SHOWN:
            return Html(
                element("pre", *_coloured("".join(shown))) + element("p", "The changes are too large to be shown as a whole.")
            )
    return element("pre", *_coloured("".join(shown))) if size else element("p", "No changes.")


def _coloured(difference: str) -> Iterator[str]:
    """A diff with its added and deleted lines as such."""
    for sign, lines in groupby(difference.splitlines(keepends=True), lambda line: line[:1]):
        text = "".join(lines)
        yield element("ins", text) if sign == "+" else element("del", text) if sign == "-" else text


def _trail(here: str, path: str) -> list[str]:
    """` / a / b.txt`, with a link to each folder above."""
    parts = path.split("/")
    folders: list[str] = []
    for count, part in enumerate(parts[:-1], 1):
        folders += [" / ", link(part, f"{here}/{_path('/'.join(parts[:count]))}")]
    return [*folders, " / ", parts[-1]]


def _start(request: Request) -> int:
    """The first entry of the page `p`, which begins at 0."""
    number = request.query_params.get("p", "0")
    return PAGE_SIZE * (int(number) if number.isascii() and number.isdigit() and len(number) < 9 else 0)


def _part(request: Request, items: list[T]) -> tuple[int, list[T], bool]:
    """The start of the page that is asked for, its items, and whether there are more."""
    start = _start(request)
    return start, items[start : start + PAGE_SIZE], len(items) > start + PAGE_SIZE


def _more(url: str, start: int, more: bool) -> Html:
    number, separator = start // PAGE_SIZE, "&" if "?" in url else "?"
    links = [link("Previous", f"{url}{separator}p={number - 1}")] if number else []
    links += [link("Next", f"{url}{separator}p={number + 1}")] if more else []
    return element("nav", *links) if links else Html()


def _url(name: RepoName) -> str:
    return f"/{name.resource}"


def _overview(name: RepoName) -> str:
    """The page of a repo. That of a Space is its app, as on the Hub, so here it is the files."""
    return f"{_url(name)}/tree/main" if name.kind == "space" else _url(name)


def _quoted(revision: str) -> str:
    return quote(revision, safe="", errors="replace")


def _path(path: str) -> str:
    return quote(path, errors="replace")


def _commit_link(name: RepoName, commit: pygit2.Commit) -> Html:
    return link(_title(commit) or str(commit.id)[:7], f"{_url(name)}/commit/{commit.id}")


def _title(commit: pygit2.Commit) -> str:
    return commit.raw_message.decode("utf-8", "replace").partition("\n")[0]


def _date(commit: pygit2.Commit) -> str:
    return datetime.fromtimestamp(commit.commit_time, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _page(handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Errors as a page. A repo that the browser may not read is missing, and the browser is not asked for a password."""

    def page(request: Request) -> Response:
        try:
            return handler(request)
        except Refusal as refusal:
            if refusal.status in _REDIRECTS:  # to the new name of a repo
                raise
            status, message = refusal.status, refusal.message
            if status == 401:
                status, message = 404, "Repository not found. It may be private: only public repos have pages"
        except RepoMissingError:
            status, message = 404, "Repository not found"
        return html_response(message, element("h1", message), status=status)

    return page


_PAGES = {
    "": overview,
    "/tree/{revision}": folder,
    "/tree/{revision}/{path:path}": folder,
    "/blob/{revision}/{path:path}": file,
    "/commits/{revision}": commits,
    "/commit/{commit}": commit,
    "/discussions": discussion_list,
    "/discussions/{number:number}": discussion,
}
routes = [
    Route("/", _page(home), methods=["GET"]),
    *(
        Route(prefix + "/{owner}/{name}" + path, _page(handler), methods=["GET"])
        for prefix in ("/{kind:prefix}", "")
        for path, handler in _PAGES.items()
    ),
]
