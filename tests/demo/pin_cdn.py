"""Pins the files that the demo loads from the CDN, by their checksums: `python -m tests.demo.pin_cdn` writes cdn.json.

The versions are those of tests/node_packages.py. The files are the ones of the npm packages, which the CDN serves unchanged.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from ..node_packages import TRANSFORMERS_JS

PAGE = Path(__file__).parent.parent.parent / "echoself_action/demo/page"
CDN = "https://cdn.jsdelivr.net/npm"
# transformers.js with the JavaScript of ONNX Runtime in it; then ONNX Runtime for CPUs, without WebGPU: half of the size.
FILES = (
    ("@huggingface/transformers", "dist/transformers.min.js", "text/javascript"),
    ("onnxruntime-web", "dist/ort-wasm-simd-threaded.mjs", "text/javascript"),
    ("onnxruntime-web", "dist/ort-wasm-simd-threaded.wasm", "application/wasm"),
)


def pinned(modules: Path) -> list[dict[str, Any]]:
    """What cdn.json must contain for the packages in the folder `modules`, in the order of FILES."""
    return [_entry(modules / package, package, path, media_type) for package, path, media_type in FILES]


def _entry(folder: Path, package: str, path: str, media_type: str) -> dict[str, Any]:
    version, content = json.loads((folder / "package.json").read_bytes())["version"], (folder / path).read_bytes()
    return {
        "url": f"{CDN}/{package}@{version}/{path}",
        "integrity": f"sha384-{base64.b64encode(hashlib.sha384(content).digest()).decode()}",
        "type": media_type,
        "size": len(content),
    }


def write() -> None:
    (PAGE / "cdn.json").write_text(json.dumps(pinned(TRANSFORMERS_JS.modules()), indent=2) + "\n")


if __name__ == "__main__":
    write()
