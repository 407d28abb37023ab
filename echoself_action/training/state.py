"""What exact continuation needs beside the weights: `training_state/` in a checkpoint, as safetensors and JSON.

Batches and dropout are pure functions of the seed and the position, so there is no random state to keep.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..checkpoint.folder import TRAINING_STATE
from ..checkpoint.tensors import save_tensors
from ..errors import CheckpointError
from .schedule import Schedule

STATE_FILE, OPTIMIZER_FILE, SPARE_FILE = "state.json", "optimizer.safetensors", "spare.safetensors"


class TrainingState(BaseModel):
    """Where a run stands, beside what the checkpoint's metadata says.

    `sequences_seen` is its place in the stream of batches; `weights_sha256` is of the weights that the moments belong to;
    the last four are there to tell what a continuation changes.
    """

    model_config = ConfigDict(frozen=True)

    format: int = 1
    sequences_seen: int
    schedule: Schedule
    weights_sha256: str
    seed: int
    sequences_per_step: int
    dtype: str
    data_digest: str


def write_moments(folder: Path, moments: Mapping[str, Tensor], release: Callable[[], None] = lambda: None) -> None:
    """Write the optimizer's moments into the checkpoint that is being made at `folder`; `release` as in `save_tensors`."""
    (folder / TRAINING_STATE).mkdir()
    save_tensors(folder / TRAINING_STATE / OPTIMIZER_FILE, moments, None, release)


def write_state(folder: Path, state: TrainingState) -> None:
    """Write what belongs to the moments, after them: it names the weights that they are of."""
    (folder / TRAINING_STATE / STATE_FILE).write_text(state.model_dump_json(indent=2) + "\n", encoding="utf-8")


def write_spare(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Keep what an imported model's own program wants back and the model here has no place for, beside the training state."""
    save_tensors(folder / TRAINING_STATE / SPARE_FILE, tensors)


def read_spare(folder: Path) -> dict[str, Tensor]:
    """What `write_spare` kept, by the other program's names; empty where there is nothing."""
    path = folder / TRAINING_STATE / SPARE_FILE
    try:
        return load_file(path) if path.is_file() else {}
    except SafetensorError as error:
        raise CheckpointError(f"{path} can't be read: {error}. It was not used.", "Delete it to go on without.") from error


def read_state(folder: Path, weights_sha256: str) -> tuple[TrainingState, dict[str, Tensor]]:
    """The state and the optimizer's moments in `folder`.

    Raises CheckpointError where they are broken, or belong to other weights than those of `weights_sha256`.
    """
    place = folder / TRAINING_STATE
    try:
        state = TrainingState.model_validate_json((place / STATE_FILE).read_bytes())
        moments = load_file(place / OPTIMIZER_FILE)
    except (OSError, ValidationError, SafetensorError) as error:
        raise CheckpointError(
            f"{place} can't be read: {error}. Training was not continued.",
            "Delete that folder to go on from the weights alone, or use another checkpoint.",
        ) from error
    if state.weights_sha256 != weights_sha256:
        raise CheckpointError(
            f"{place} belongs to other weights than {folder / 'model.safetensors'}. Training was not continued.",
            "Delete that folder to go on from the weights alone, or use another checkpoint.",
        )
    return state, moments
