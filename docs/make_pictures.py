"""Makes the pictures of README and docs: `./run pictures`, or `.venv/bin/python docs/make_pictures.py`.

Two cycles as two jobs would run them: each in a checkout of its own, on this repository's Markdown, with a Hub on this machine
between them. Then go to docs/images/, each light and dark: the job summary of the second (what is not folded), its report.html
and its demo on a phone, and the model card. All of it is what the runs wrote; only the address of the Hub is huggingface.co's.
`--work FOLDER` keeps the runs, and uses those that are there. Needs Chromium and Node.js, and takes `--minutes` and as long
again.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageChops

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from tests.demo.internet import internet, serve  # noqa: E402
from tests.demo.visits import visit  # noqa: E402
from tests.node_packages import TRANSFORMERS_JS  # noqa: E402
from tests.report.browser import find_browser, picture_of  # noqa: E402
from tests.report.github_page import Theme, render  # noqa: E402

IMAGES = ROOT / "docs/images"
DATA = "**/*.md"
REPO = "you/your-model"
LOOPBACK = re.compile(r"http://127\.0\.0\.1:\d+")
COLOURS = 64  # of a picture: enough for text and lines, in a third of the bytes of true colour
SCALE = 2  # pixels for each CSS pixel
THEMES: tuple[Theme, Theme] = ("light", "dark")


def run_cycles(work: Path, minutes: float) -> Path:
    """Two cycles in folders of `work`; returns that of the second.

    Raises CalledProcessError if one fails, SystemExit if the second publishes nothing.
    """
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for number, night in enumerate(("first", "second"), start=1):
        workspace, summary = work / night, work / f"{night}-summary.md"
        if summary.exists():
            continue
        shutil.rmtree(workspace, ignore_errors=True)
        for name in filter(None, tracked):
            (workspace / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, workspace / name)
        unfinished = work / "unfinished-summary.md"
        unfinished.unlink(missing_ok=True)
        environment = os.environ | {
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(unfinished),
            "GITHUB_REPOSITORY": "you/your-repository",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_WORKFLOW": "model",
            "GITHUB_EVENT_NAME": "schedule",
            "GITHUB_REF_NAME": "main",
            "GITHUB_RUN_ID": str(number),
        }
        command = [Path(sys.executable).with_name("echoself"), "cycle", "--hub", str(work / "hub"), "--repo-id", REPO]
        command += ["--data", DATA, "--license", "mit", "--language", "en", "--demo"]
        # the first is shorter: on so little text, a full one would leave the second nothing to gain
        limit = minutes * number / 2
        subprocess.run([*command, "--max-minutes", str(limit)], cwd=workspace, env=environment, check=True)
        unfinished.rename(summary)
    if not (work / "second-summary.md").read_text().startswith("# Published: "):
        raise SystemExit("The second cycle published no better model, so no picture was made. Use other --minutes.")
    return work / "second"


def write(name: str, theme: Theme, taken: Image.Image, height: int) -> None:
    """Write the first `height` CSS pixels of a picture to docs/images."""
    cut = taken.convert("RGB").crop((0, 0, taken.width, min(height * SCALE, _end_of_content(taken.convert("RGB")))))
    path = IMAGES / f"{name}-{theme}.png"
    cut.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {cut.width} x {cut.height}, {path.stat().st_size:,} bytes")


def _end_of_content(picture: Image.Image) -> int:
    """The height without the empty rows at the end, plus a margin."""
    background = Image.new("RGB", picture.size, picture.getpixel((0, picture.height - 1)))  # type: ignore[arg-type]
    box = ImageChops.difference(picture, background).getbbox()
    return min(picture.height, (box[3] if box else picture.height) + 16 * SCALE)


def write_demo_pictures(demo: Path, pages: Path) -> None:
    """The demo after it wrote a text, on a phone."""
    with serve(demo) as site, internet(TRANSFORMERS_JS.modules(), pages) as net:
        given = {"demo": site.url, "folder": str(pages), "width": 390, "scale": SCALE, "themes": THEMES}
        visit("picture", net, given)
    for theme in THEMES:
        write("demo", theme, Image.open(pages / f"demo-{theme}.png"), 1200)


def published_card(work: Path, folder: Path) -> str:
    """The model card on the Hub in `work`, without its front matter. Its pictures are put into `folder`."""
    repo = work / f"hub/models/{REPO}.git"

    def content(path: str) -> bytes:
        return subprocess.run(["git", "-C", repo, "show", f"main:{path}"], check=True, capture_output=True).stdout

    card = content("README.md").decode()
    for path in re.findall(r"!\[[^]]*\]\((?!https?:)([^)]+)\)", card):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content(path))
    return re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the pictures of README and docs from a real run.")
    parser.add_argument("--minutes", type=float, default=1, help="of the second cycle; the first has half (%(default)s)")
    parser.add_argument("--work", type=Path, help="keep the runs here, and use those that are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        second = run_cycles(work, arguments.minutes)
        pages = work / "pages"
        pages.mkdir(exist_ok=True)
        summary, card = (work / "second-summary.md").read_text().partition("<details>")[0], published_card(work, pages)
        IMAGES.mkdir(exist_ok=True)
        write_demo_pictures(second / "echoself-model/demo", pages)
        for theme in THEMES:
            report = picture_of(
                find_browser(), second / "echoself-model/report.html", pages, 390, dark=theme == "dark", scale=SCALE
            )
            write("report", theme, Image.open(BytesIO(report)), 1100)
            for name, markdown, height in (("summary", summary, 1300), ("card", card, 1000)):
                shown = LOOPBACK.sub("https://huggingface.co", markdown)
                write(name, theme, Image.open(render(shown, theme, 860, pages, name, SCALE)), height)


if __name__ == "__main__":
    main()
