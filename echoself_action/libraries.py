"""Third-party libraries that few runs need, imported at their first use: each takes 0.1 to 2 seconds, or is optional.

Modules write `from .. import libraries` and `libraries.NAME`. A library that is not installed raises ModuleNotFoundError there.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CDLL
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import cryptography.exceptions
    import cryptography.hazmat.primitives.serialization
    import detect_secrets.core.plugins.util
    import gguf
    import localhub
    import matplotlib.figure
    import matplotlib.ticker
    import model_signing.signing
    import model_signing.verifying
    import onnx
    import onnxruntime
    import pyarrow.parquet
    import pyppmd
    import sigstore.errors
    import sigstore.oidc
    import tensorboardX.proto.event_pb2
    import tensorboardX.proto.summary_pb2
    import tensorboardX.record_writer
    import torch
    import torch.distributed.checkpoint.state_dict
    import torch.distributed.device_mesh
    import torch.distributed.fsdp
    import torch.distributed.tensor
    import xllamacpp
    from torch import distributed as torch_distributed

__all__ = [
    "cryptography",
    "detect_secrets",
    "gguf",
    "localhub",
    "matplotlib",
    "model_signing",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "pyppmd",
    "sigstore",
    "tensorboardX",
    "torch",
    "torch_distributed",
    "xllamacpp",
]

_PACKAGE_OF = {"torch_distributed": "torch.distributed"}  # names that are not the package's own
_MODULES = {  # the modules of each package that are used here
    "cryptography": ("exceptions", "hazmat.primitives.serialization"),  # optional, with model_signing
    "detect_secrets": ("core.plugins.util",),  # loads requests
    "gguf": (),  # optional, of the extra `export`
    "localhub": (),  # optional
    "matplotlib": ("figure", "ticker"),
    "model_signing": ("signing", "verifying"),  # optional
    "onnx": (),  # optional, of the extra `export`
    "onnxruntime": (),  # optional, of the extra `export`
    "pyarrow": ("parquet",),
    "pyppmd": (),  # only for a corpus that was not tokenized before
    "sigstore": ("errors", "oidc"),  # optional, with model_signing
    "tensorboardX": ("proto.event_pb2", "proto.summary_pb2", "record_writer"),  # loads PyTorch
    "torch": (),
    "torch_distributed": ("checkpoint.state_dict", "device_mesh", "fsdp", "tensor"),  # of sharded runs
    "xllamacpp": (),  # optional, of the extra `export`
}


@contextmanager
def loading_code() -> Iterator[None]:
    """No garbage is collected: imports of PyTorch and transformers make a million objects, none of which is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load_openmp() -> None:
    """Load PyTorch's copy of GCC's OpenMP library: xllamacpp brings none, and small images such as python:slim have none."""
    torch = find_spec("torch")
    for folder in (torch and torch.submodule_search_locations) or ():
        if (path := Path(folder) / "lib/libgomp.so.1").is_file():
            CDLL(str(path))


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:  # PEP 562
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "xllamacpp":
            _load_openmp()
        package = _PACKAGE_OF.get(name, name)
        with loading_code():
            for module in _MODULES[name]:
                import_module(f"{package}.{module}")
            return import_module(package)
