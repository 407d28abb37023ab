"""Opens a page in headless Chromium and reports its DOM, colours, width and console, or takes a screenshot."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
# The probe shows the page in a frame of the given width and inspects it from outside: the page itself may run no script.
_PROBE = r"""<!doctype html><style>* {{ margin: 0; border: 0 }}</style>
<iframe src="{page}" style="width: {width}px; height: 3000px"></iframe><pre id="seen"></pre>
<script>
function measured(page, view) {{
  page.querySelectorAll("details").forEach((one) => one.open = true);
  const box = (element) => element.getBoundingClientRect(), style = (element) => view.getComputedStyle(element);
  const visible = [...page.querySelectorAll("body *")].filter((one) => one.checkVisibility() && box(one).width > 0);
  const behind = (one) => {{
    while (one.parentElement && /, 0\)$|transparent/.test(style(one).backgroundColor)) one = one.parentElement;
    return style(one).backgroundColor;
  }};
  const texts = (one) => [...one.childNodes].filter((node) => node.nodeType === 3);
  const shown = (one) => texts(one).map((node) => node.textContent).join("").trim();
  const written = visible.filter(shown);
  return {{
    cut: visible.filter((one) => box(one).right > view.innerWidth + 0.5 || box(one).left < -0.5
        || (one.tagName !== "svg" && !one.closest("svg") && one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0
            && style(one).display !== "inline"))
      .map((one) => `${{one.tagName}} ${{one.textContent.slice(0, 60)}}`),
    colours: [...new Map(written.map((one) => [one.closest("svg") ? style(one).fill : style(one).color, one]))]
      .map(([colour, one]) => [colour, behind(one), shown(one).slice(0, 40)]),
    small: written.filter((one) => (one.closest("svg") ? box(one).height : parseFloat(style(one).fontSize)) < 11).map(shown),
    links: [...page.querySelectorAll("a")].map((one) => [one.textContent, one.href]),
  }};
}}
document.querySelector("iframe").onload = ({{ target }}) => {{
  const page = target.contentDocument, root = page.documentElement;
  document.getElementById("seen").textContent = JSON.stringify({{
    title: page.title, text: page.body.innerText, html: page.body.innerHTML,
    scripts: page.querySelectorAll("script, img, iframe, object").length,
    width: root.scrollWidth, seen_width: root.clientWidth,
    background: target.contentWindow.getComputedStyle(page.body).backgroundColor,
    ...measured(page, target.contentWindow),
    charts: [...page.querySelectorAll("svg.chart")].map(svg => svg.getBoundingClientRect().width),
    fetched: target.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name),
  }});
}};
</script>"""


@dataclass(frozen=True)
class Seen:
    """Facts about a page, and the lines that the browser wrote to its console."""

    facts: dict[str, Any]
    console: list[str]


def find_browser() -> str:
    """The browser's executable. Skips the test if none is installed; fails it in CI."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"there is no {NAMES[0]}, and under CI=true its tests must run")
    pytest.skip(f"there is no {NAMES[0]} on this machine (apt-get install chromium)")


def look_at(browser: str, page: Path, folder: Path, width: int, dark: bool = False) -> Seen:
    """Open `page` in a frame `width` pixels wide."""
    probe = folder / f"probe-{width}-{dark}.html"
    probe.write_text(_PROBE.format(page=page.resolve().as_uri(), width=width))
    done = _run(browser, folder, dark, "--dump-dom", "--enable-logging=stderr", "--window-size=1300,3000", probe.as_uri())
    [seen] = re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    return Seen(json.loads(unescape(seen)), [line for line in done.stderr.splitlines() if ":CONSOLE" in line])


def picture_of(browser: str, page: Path, folder: Path, width: int, dark: bool = False, scale: int = 1) -> bytes:
    """A PNG of the page, with `scale` pixels for each CSS pixel."""
    path = folder / "picture.png"
    size, pixels = f"--window-size={width},2000", f"--force-device-scale-factor={scale}"
    _run(browser, folder, dark, size, pixels, f"--screenshot={path}", page.resolve().as_uri())
    return path.read_bytes()


def run_browser(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the browser with these arguments, such as --dump-dom and a URL. `folder` gets its profile."""
    return _run(find_browser(), folder, False, *words)


def _run(browser: str, folder: Path, dark: bool, *words: str) -> subprocess.CompletedProcess[str]:
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    flags += ["--disable-background-networking", "--virtual-time-budget=3000", f"--user-data-dir={folder / 'profile'}"]
    flags += ["--blink-settings=preferredColorScheme=0" if dark else "--blink-settings=preferredColorScheme=1"]
    return subprocess.run([browser, *flags, *words], capture_output=True, text=True, check=True, timeout=120)
