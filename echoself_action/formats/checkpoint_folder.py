"""A folder that a trainer wrote its checkpoint files into, such as nanoGPT's out_dir or build-nanogpt's log."""

from pathlib import Path

from ..errors import CheckpointError

_NANOGPT = "ckpt.pt"
_SUFFIXES = (".pt", ".pth", ".ckpt")
_MODELS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "pytorch_model*.bin*",
    "adapter_config.json",
    "trainer_state.json",
)  # of transformers: the folder itself is a checkpoint
_SHOWN = 5


def checkpoint_in(folder: Path) -> Path | None:
    """The checkpoint file in `folder`; None if it has none, or is a model of transformers.

    Raises CheckpointError if there are several, of which none is nanoGPT's.
    """
    if any(next(folder.glob(pattern), None) for pattern in _MODELS):
        return None
    if (folder / _NANOGPT).is_file():
        return folder / _NANOGPT
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    if len(found) > 1:
        shown = ", ".join(path.name for path in found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if found[_SHOWN:] else "")
        raise CheckpointError(
            f"{folder} contains {len(found)} checkpoint files: {shown}. None was used.",
            f"Give the path of one of them, for example {found[-1]}.",
        )
    return found[0] if found else None
