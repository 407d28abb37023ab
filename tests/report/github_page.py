"""Shows Markdown as GitHub shows it in a job summary: light or dark, in any width, with Mermaid diagrams, in a real browser.

`render` takes a screenshot, `look_at_markdown` reports what is on the page.
"""

import json
import re
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ..node_packages import GITHUB_MARKDOWN
from .browser import run_browser

Theme = Literal["light", "dark"]
_CANVAS = {"light": "#ffffff", "dark": "#0d1117"}
_BORDER = {"light": "#d1d9e0", "dark": "#3d444d"}
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Job summary</title>
<link rel="stylesheet" href="{css}">
<style>
  body {{ margin: 0; padding: {margin}px; background: {canvas}; }}
  .markdown-body {{ box-sizing: border-box; max-width: 1012px; padding: {margin}px; border: 1px solid {border};
    border-radius: 6px; }}
  .mermaid {{ margin-bottom: 16px; text-align: center; }}
  .mermaid:not([data-drawn]) {{ visibility: hidden; }}
</style></head>
<body><article class="markdown-body">{body}</article>
<script src="{mermaid}"></script>
<script>
mermaid.initialize({{ startOnLoad: false, theme: "{mermaid_theme}", securityLevel: "strict" }});
(async () => {{
  const errors = [];
  for (const [number, block] of [...document.querySelectorAll(".mermaid")].entries()) {{
    try {{ block.innerHTML = (await mermaid.render(`diagram${{number}}`, block.textContent)).svg; }}
    catch (error) {{ errors.push(String(error)); block.textContent = `Unable to render rich display: ${{error}}`; }}
    block.dataset.drawn = true;
  }}
  const article = document.querySelector("article"), box = (element) => element.getBoundingClientRect();
  const text = (element) => [...element.querySelectorAll("text")].map((one) => ({{
    text: one.textContent, colour: getComputedStyle(one).fill,
    size: parseFloat(getComputedStyle(one).fontSize) * box(element).width / element.viewBox.baseVal.width }}));
  parent.document.getElementById("seen").textContent = JSON.stringify({{
    errors, text: article.innerText, height: document.documentElement.scrollHeight,
    cut: [...article.querySelectorAll("p, h1, h2, h3, li, summary, blockquote, .mermaid")]
      .filter((one) => one.scrollWidth > one.clientWidth + 1 || box(one).right > innerWidth)
      .map((one) => one.textContent.slice(0, 80)),
    scrolled: [...article.querySelectorAll("table, pre")].filter((one) => one.scrollWidth > one.clientWidth + 1)
      .map((one) => one.textContent.slice(0, 80)),
    canvas: getComputedStyle(document.body).backgroundColor,
    charts: [...article.querySelectorAll(".mermaid svg")].map((one) => ({{
      width: box(one).width, background: getComputedStyle(one.querySelector(".background") ?? one).fill,
      lines: [...one.querySelectorAll(".plot path")].map((line) => getComputedStyle(line).stroke), texts: text(one),
      points: [...one.querySelectorAll(".plot path")].map((line) => line.getAttribute("d").split(/[ML]/).length - 1) }})),
  }});
}})();
</script></body></html>"""
# The browser's own window is at least 500 pixels wide.
_FRAME = """<!doctype html><style>* {{ margin: 0; border: 0 }} iframe {{ display: block }}</style>
<iframe src="{page}" style="width: {width}px; height: {height}px"></iframe><pre id="seen" hidden></pre>"""


@dataclass(frozen=True)
class GitHubPage:
    """What is on the page: `facts` as the browser reports them. `path` is the file, `width` is in CSS pixels."""

    facts: dict[str, Any]
    path: Path
    width: int

    def framed(self, height: int) -> Path:
        """A page that shows this one in a frame of its width."""
        frame = self.path.with_suffix(".frame.html")
        frame.write_text(_FRAME.format(page=self.path.as_uri(), width=self.width, height=height))
        return frame


def render(markdown: str, theme: Theme, width: int, folder: Path, name: str = "summary", scale: int = 1) -> Path:
    """A PNG of the whole page, `width` CSS pixels wide, with `scale` pixels for each; returns its path in `folder`."""
    page = look_at_markdown(markdown, theme, width, folder, name)
    picture = folder / f"{name}-{theme}-{width}.png"
    height = page.facts["height"]
    size, pixels = f"--window-size={max(500, width)},{height}", f"--force-device-scale-factor={scale}"
    run_browser(folder, size, pixels, f"--screenshot={picture}", page.framed(height).as_uri())
    with Image.open(picture) as image:
        image.crop((0, 0, width * scale, height * scale)).save(picture, optimize=True)
    return picture


def look_at_markdown(markdown: str, theme: Theme, width: int, folder: Path, name: str = "summary") -> GitHubPage:
    """Open the page in a window `width` CSS pixels wide, and report what is on it."""
    packages = GITHUB_MARKDOWN.modules()
    body = GITHUB_MARKDOWN.run(Path(__file__).with_suffix(".mjs"), stdin=markdown).stdout
    page = GitHubPage({}, (folder / f"{name}-{theme}-{width}.html").resolve(), width)
    page.path.write_text(
        _PAGE.format(
            css=(packages / f"github-markdown-css/github-markdown-{theme}.css").resolve().as_uri(),
            mermaid=(packages / "mermaid/dist/mermaid.min.js").resolve().as_uri(),
            mermaid_theme="dark" if theme == "dark" else "default",
            canvas=_CANVAS[theme],
            border=_BORDER[theme],
            margin=16 if width < 700 else 24,
            body=body,
        )
    )
    dom = run_browser(folder, "--dump-dom", "--window-size=1300,1000", page.framed(100).as_uri()).stdout
    [seen] = re.findall(r'<pre id="seen" hidden="">(.*?)</pre>', dom, re.DOTALL)
    return replace(page, facts=json.loads(unescape(seen)))


def contrast(one: str, other: str) -> float:
    """The contrast of two CSS colours, 1 to 21, as WCAG 2 defines it."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
