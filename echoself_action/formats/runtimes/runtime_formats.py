"""The formats of programs that run a model, one record each: they are published with it, after each file was run there."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from ..registry import FORMATS, Exported, ExportFormat, load

if TYPE_CHECKING:
    from ...checkpoint.metadata import ExportFacts
    from ...checkpoint.model_folder import ModelFolder
    from ...corpus.tokenizer import Tokenizer

ONNX_FP32, ONNX_INT8 = "onnx/model.onnx", "onnx/model_quantized.onnx"  # in a repo: transformers.js's dtype fp32 and q8
LARGEST_ON_THE_HUB = 50 * 10**9  # bytes; https://huggingface.co/docs/hub/storage-limits
LARGEST_PROTOBUF = 2**31 - 1  # bytes; ONNX is a protobuf message, and browsers take no larger file either


class Runtime(Protocol):
    """The module that runs the files of a format in the program that they are for."""

    def check(self, folder: "ModelFolder", exported: Exported) -> tuple["ExportFacts", ...]:
        """Compare each file of `exported` with `folder`: logits and token ids.

        Raises CheckpointError if one of them differs by more than its format allows, InputError if the program is not
        installed.
        """


@dataclass(frozen=True, kw_only=True)
class RuntimeFormat(ExportFormat):
    """`runtime` is the module that runs the files, `tokenizer` the one that refuses tokenizers, "" if all can be represented.

    `published` are the files in the repo; `libraries` the modules that this needs, of the extra `export` of the package;
    `architectures` the names of those that the program computes; `usage` is Markdown that says how to run a published model
    OWNER/NAME; `bytes_per_parameter` are the sizes of the files, for an estimate; and `largest_file` is what a file may have,
    in bytes, because of `largest_file_reason`.
    """

    runtime: str
    published: tuple[str, ...]
    usage: str
    libraries: tuple[str, ...]
    bytes_per_parameter: tuple[float, ...]
    tokenizer: str = ""
    architectures: tuple[str, ...] = ("gpt2",)
    largest_file: int = LARGEST_ON_THE_HUB
    largest_file_reason: str = "the Hub takes files"

    def check(self, folder: "ModelFolder", exported: Exported) -> tuple["ExportFacts", ...]:
        """As `Runtime.check`."""
        return cast(Runtime, load(self.runtime)).check(folder, exported)

    def require_tokenizer(self, tokenizer: "Tokenizer", size: int, folder: Path) -> None:
        """Raises CheckpointError if the program can't have this tokenizer, with `size` ids, of the model in `folder`."""
        if self.tokenizer:
            load(self.tokenizer).require_tokenizer(tokenizer, size, folder)


GGUF = RuntimeFormat(
    name="gguf",
    display_name="llama.cpp",
    exporter=".runtimes.gguf_export",
    exports="gguf/model-F32.gguf, model-F16.gguf, model-Q8_0.gguf and a Modelfile, template and params for Ollama",
    runtime=".runtimes.llama_cpp",
    tokenizer=".runtimes.gguf_tokenizer",
    published=("model-F32.gguf", "model-F16.gguf", "model-Q8_0.gguf", "Modelfile", "template", "params"),
    usage="""In llama.cpp and in Ollama:

```sh
llama-server -hf OWNER/NAME:Q8_0
ollama run hf.co/OWNER/NAME:Q8_0
```
""",
    libraries=("gguf", "xllamacpp"),
    bytes_per_parameter=(4, 2, 1.0625),
)
ONNX = RuntimeFormat(
    name="onnx",
    display_name="ONNX Runtime and transformers.js",
    exporter=".runtimes.onnx_export",
    exports="onnx/model.onnx and onnx/model_quantized.onnx",
    runtime=".runtimes.onnx_runtime",
    published=(ONNX_FP32, ONNX_INT8),
    usage="""In a browser or in Node.js, with transformers.js:

```js
import { pipeline } from "@huggingface/transformers";

const generator = await pipeline("text-generation", "OWNER/NAME", { dtype: "q8" });  // or fp32
const [answer] = await generator("The", { max_new_tokens: 50 });
console.log(answer.generated_text);
```
""",
    libraries=("onnx", "onnxruntime"),
    bytes_per_parameter=(4, 1),
    largest_file=LARGEST_PROTOBUF,
    largest_file_reason="ONNX takes files",
)
PUBLISHED = {one.name: one for one in (GGUF, ONNX)}
PUBLISHED_FILES = frozenset(name for one in PUBLISHED.values() for name in one.published)
PUBLISHED_WEIGHTS = frozenset(name for name in PUBLISHED_FILES if name.endswith((".gguf", ".onnx")))
EXPORTS: dict[str, ExportFormat] = {one.name: one for one in FORMATS if one.exporter}
EXPORTS |= PUBLISHED
EXPORTS_HELP = ", ".join(f"`{name}` writes {one.exports}" for name, one in EXPORTS.items())
if TYPE_CHECKING:
    ExportName = str
else:
    ExportName = Literal[tuple(EXPORTS)]
