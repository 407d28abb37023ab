"""HTML pages built from elements that escape their text, with a style sheet and without scripts."""

import base64
import hashlib
from html import escape

from starlette.responses import Response

_STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --muted: #59636e; --line: #d1d9e0; --back: #fff; --box: #f6f8fa;
  --link: #0757b8; --added: #116329; --deleted: #a40e26; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --muted: #9aa4af; --line: #3d444d; --back: #0d1117;
  --box: #151b23; --link: #74b3ff; --added: #7ee787; --deleted: #ffa198; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--text);
  background: var(--back); overflow-wrap: anywhere; }
a { color: var(--link); }
h1 { font-size: 1.4rem; margin: .5rem 0; } h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: .5rem 0; border-bottom: 1px solid var(--line); }
ul { list-style: none; margin: 0; padding: 0; border: 1px solid var(--line); border-radius: 6px; }
li { display: flex; flex-wrap: wrap; gap: 0 1rem; justify-content: space-between; padding: .4rem .75rem; }
li + li { border-top: 1px solid var(--line); }
pre { margin: .5rem 0; padding: .75rem; border: 1px solid var(--line); border-radius: 6px; background: var(--box);
  font: .85rem/1.45 ui-monospace, monospace; white-space: pre-wrap; }
ins, del { text-decoration: none; color: var(--added); } del { color: var(--deleted); }
input, button { font: inherit; max-width: 100%; padding: .25rem .5rem; } form { margin: .75rem 0; }
summary { cursor: pointer; padding: .5rem 0; }
small { color: var(--muted); font-size: .85rem; }
"""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str) -> Html:
    """An element. Children that are not Html, and the values of attributes, are escaped."""
    inside = "".join(child if isinstance(child, Html) else escape(child) for child in children)
    given = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{inside}</{name}>")


def link(text: str, href: str) -> Html:
    return element("a", text, href=href)


def html_response(title: str, *body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A page with these elements. Text that is not valid Unicode is shown with question marks."""
    head = element("title", title) + Html('<meta name="viewport" content="width=device-width, initial-scale=1">')
    page = element("body", element("nav", link("localhub", "/")), element("main", *body))
    text = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{head}<style>{_STYLE}</style></head>{page}</html>'
    return Response(
        text.encode("utf-8", "replace"), status, {**_HEADERS, **(headers or {})}, media_type="text/html; charset=utf-8"
    )
