"""The HTML pages: each is one file without scripts or requests, rendered by Jinja2 from the templates beside this module.

Jinja2 escapes every value except the charts, which escape their own text, so that text from a model or a corpus can't become
markup. Should that ever fail, the Content-Security-Policy in templates/base.html forbids scripts and requests.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader

from ..checkpoint.atomic import new_file
from ..markdown import number

SHA = 7  # digits of a commit, as GitHub and the Hub show it
_TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: object) -> str:
    """The HTML of `template`, a file that extends base.html, with `values`."""
    return _environment().get_template(template).render(written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", **values)


def job_links(run: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(label, text, URL) of the job `run` in GitHub Actions, of its repository and of the commit that it ran on."""
    job, source = run.get("run_url", ""), run.get("commit", "")
    repository = job.partition("/actions/")[0]
    return [
        ("Job", f"run {run.get('run_id', '')}" if job else "", job),
        ("Repository", run.get("repository", ""), repository),
        ("Code and text", source[:SHA], f"{repository}/commit/{source}"),
    ]


def followable(url: str | None) -> str:
    """`url`, unless only this machine can follow it, or it is not that of a web page; "" then."""
    try:
        parts = urlsplit(url or "")
        host = parts.hostname or ""
    except ValueError:
        return ""
    return url if url and parts.scheme in ("https", "http") and host and not _is_this_machine(host) else ""


def _is_this_machine(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def write_html(path: Path, html: str) -> Path:
    """Write `html` to `path`, atomically; returns `path`. Characters that UTF-8 can't encode become question marks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        file.write(html.encode("utf-8", "replace"))
    return path


@cache
def _environment() -> Environment:
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "followable": followable}
    return environment
