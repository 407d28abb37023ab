"""What the renderer shows is what GitHub shows: its rules are those of the pages that it is used for."""

from pathlib import Path

from PIL import Image

from .github_page import contrast, look_at_markdown, render

MARKDOWN = """
# Result

<details><summary>More</summary>

| a | b |
|---|---|
| 1 | <svg><text>drawn</text></svg> |

</details>

<b style="font-size: 90px" onclick="alert(1)">bold</b><script>document.body.remove()</script>

```mermaid
xychart-beta
    line [1, 2]
```

```mermaid
not a diagram
```
"""


def test_markdown_is_shown_as_github_shows_it(tmp_path: Path) -> None:
    page = look_at_markdown(MARKDOWN, "light", 390, tmp_path)
    html = page.path.read_text().partition("<script src")[0]
    assert "<details><summary>More</summary>" in html
    assert "<td>drawn</td>" in html
    assert "<b>bold</b>" in html
    assert "<svg" not in html
    assert [len(page.facts[name]) for name in ("errors", "charts", "cut")] == [1, 1, 0]
    assert "Unable to render rich display" in page.facts["text"]
    [chart] = page.facts["charts"]
    assert 250 < chart["width"] <= 390


def test_a_picture_has_the_size_and_the_theme_that_were_asked_for(tmp_path: Path) -> None:
    with Image.open(render("# Result", "dark", 390, tmp_path, scale=2)) as picture:
        assert picture.width == 780
        assert picture.convert("RGB").getpixel((1, 1)) == (13, 17, 23)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == 21
    assert round(contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)"), 2) == 4.54
