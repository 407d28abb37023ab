"""The pages in a real browser: Chromium follows the links from the list of repos to a pull request."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 30  # for an answer of the browser
LOADED = "Page.loadEventFired"
EVIL = "</pre><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
LONG = "word-" * 60  # nowhere to break it


class Chromium:
    """A page of a headless browser, by the DevTools protocol: JSON messages that end with NUL, on the descriptors 3 and 4."""

    def __init__(self, browser: str, profile: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._received, self._number, self._session = bytearray(), 0, {}
        there, self._send = os.pipe()
        self._receive, back = os.pipe()
        # above 4, so that neither replaces the other
        own = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (there, back)]
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        self._process = subprocess.Popen(
            [browser, *options, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"],
            preexec_fn=lambda: [os.dup2(end, number) for number, end in enumerate(own, 3)],
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (there, back, *own):
            os.close(end)
        (page,) = [one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._send)
        os.close(self._receive)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._send, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda one: one.get("id") == self._number)
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        self._load(lambda: self.call("Page.navigate", url=url))

    def follow(self, text: str) -> None:
        """Click the first link with this text."""
        found = f"[...document.links].find((one) => one.textContent === {json.dumps(text)})"
        assert self.run(f"!!{found}"), (text, self.run("[...document.links].map((one) => one.textContent)"))
        self._load(lambda: self.run(f"{found}.click()"))

    def show(self, width: int, scheme: str) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def _load(self, action: Callable[[], object]) -> None:
        """Do what opens a page, and wait until it is there: the event may come before the answer."""
        before = len(self.events)
        action()
        if not any(event.get("method") == LOADED for event in self.events[before:]):
            self._wait(lambda one: one.get("method") == LOADED)

    def _wait(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while True:
            while (stop := self._received.find(b"\0")) >= 0:
                message = json.loads(self._received[:stop])
                del self._received[: stop + 1]
                if wanted(message):
                    return message
                self.events.append(message)
            assert select.select([self._receive], [], [], end - time.monotonic())[0], f"no answer in {SECONDS} s"
            received = os.read(self._receive, 1 << 20)
            assert received, "the browser has ended"
            self._received += received


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"{NAMES[0]} is not installed on this machine (apt-get install chromium)"
        pytest.fail(f"{reason}, and under CI=true its tests must run") if os.environ.get("CI") == "true" else pytest.skip(
            reason
        )
    page = Chromium(found, tmp_path / "profile")
    yield page
    page.close()


LOOK = """(() => {
  const colour = (one, name) => getComputedStyle(one)[name].match(/[0-9.]+/g).slice(0, 3).map(Number);
  const light = (rgb) => rgb.map((one) => one / 255)
    .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const back = light(colour(document.body, "backgroundColor"));
  const written = [...document.body.querySelectorAll("*")].filter((one) => one.checkVisibility()
    && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  const contrast = (one) => [back, light(colour(one, "color"))].sort((a, b) => b - a)
    .map((one) => one + 0.05).reduce((a, b) => a / b);
  return {
    wide: document.documentElement.scrollWidth > innerWidth,
    cut: [...document.body.querySelectorAll("*")].filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5).length,
    dark: back < 0.2,
    faint: written.filter((one) => contrast(one) < 4.5).map((one) => one.outerHTML.slice(0, 80)),
    hacked: typeof window.hacked, made: document.querySelectorAll("script, img, iframe").length,
  };
})()"""


def test_a_browser_finds_its_way_from_the_list_to_a_pull_request(api, repo, put, hub, browser):
    files = {f"folder/{number}.txt": b"x" for number in range(5)}
    put(api, {"README.md": f"# Card\n\n{EVIL}\n\n{LONG}".encode(), f"{EVIL[:40]}.txt".replace("/", ""): b"x", **files})
    put(api, {f"{LONG[:250]}.txt": f"the text\n{LONG}\n".encode()}, commit_message=EVIL)
    put(api, {"new.txt": f"proposed {EVIL}\n".encode()}, create_pr=True, commit_message=f"A proposal {LONG}")
    looks = []

    def look() -> str:
        for width in (500, 1200):
            for scheme in ("light", "dark"):
                browser.show(width, scheme)
                seen = browser.run(LOOK)
                dark = seen.pop("dark")
                assert dark == (scheme == "dark")
                looks.append(seen)
        return str(browser.run("document.body.innerText"))

    browser.open(hub.url)
    assert "me/model" in look()
    browser.follow("me/model")
    assert EVIL in look()
    browser.follow(f"{LONG[:250]}.txt")
    assert "the text" in look()
    browser.follow("Commits")
    look()
    browser.follow(EVIL)  # the newest commit
    assert "+the text" in look()
    browser.follow("Pull requests and discussions")
    browser.follow(f"#1 A proposal {LONG}".strip())
    assert f"+proposed {EVIL}" in look()
    assert looks == [{"wide": False, "cut": 0, "faint": [], "hacked": "undefined", "made": 0}] * 24
    noise = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
    assert [event["params"] for event in browser.events if event.get("method") in noise] == []
