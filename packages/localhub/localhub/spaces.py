"""Spaces: the files that a new one has, and static sites, which a browser reads from a host of their own."""

from .refusal import bad_request

SDKS = ("gradio", "docker", "static", "streamlit")
STATIC = "static"
APP_FILE = "index.html"  # unless the card of the Space names another
# Browsers connect names below `localhost` to this machine. A Space is a page that anybody may have written: on a host of its
# own, its scripts are of another origin than the Hub, which refuses their requests. The public Hub does so with hf.space.
SITE_HOST = "spaces.localhost"
CUSTOM_HEADERS = ("cross-origin-embedder-policy", "cross-origin-opener-policy", "cross-origin-resource-policy")

_TYPES = {  # by suffix; those that a browser runs or compiles only with the right type
    "css": "text/css; charset=utf-8",
    "gif": "image/gif",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "map": "application/json",
    "md": "text/markdown; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
    "webmanifest": "application/manifest+json",
    "webp": "image/webp",
    "woff2": "font/woff2",
}
_REFERENCE = "Check out the configuration reference at https://huggingface.co/docs/hub/spaces-config-reference"


def initial_files(name: str, sdk: str) -> dict[str, bytes]:
    """The files that the Hub makes in a new Space. Raises Refusal (400) for an unknown `sdk`."""
    if sdk not in SDKS:
        raise bad_request(f"sdk: expected one of {', '.join(SDKS)}, not {sdk!r}")
    title = name.replace("-", " ").replace("_", " ").title()
    card = f"---\ntitle: {title}\nemoji: 🐢\ncolorFrom: blue\ncolorTo: gray\nsdk: {sdk}\npinned: false\n---\n\n{_REFERENCE}\n"
    files = {"README.md": card.encode()}
    if sdk == STATIC:
        files |= {APP_FILE: f"<!doctype html>\n<title>{title}</title>\n<p>A new Space</p>\n".encode(), "style.css": b""}
    return files


def content_type(path: str) -> str:
    """The MIME type of a file of a static site."""
    return _TYPES.get(path.rpartition(".")[2].lower(), "application/octet-stream")
