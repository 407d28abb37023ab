"""The training state of a checkpoint, `training_state/`: what is needed besides the weights to resume exactly.

It is stored as safetensors and JSON. Batches and dropout are pure functions of the seed and the position, so there is no
random state to save.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from ..checkpoint.arrays import Array
from ..checkpoint.atomic import new_file
from ..checkpoint.model_folder import OPTIMIZER_FILE, SPARE_FILE, STATE_FILE, TRAINING_STATE, ModelFolder, sha256
from ..checkpoint.safetensors_writer import save_tensors
from ..errors import CheckpointError
from .curriculum import Curriculum
from .optim.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor

_HINT = "Delete that folder to resume from the weights alone, or use another checkpoint."
_SCALE_GROWTH_INTERVAL = 2000  # steps


@dataclass(frozen=True)
class LossScale:
    """Dynamic loss scaling for float16 (Micikevicius et al. 2018, arXiv 1710.03740).

    The loss is multiplied by `factor` before the backward pass, so that small gradients do not underflow. `factor` is a power
    of two, so scaling is exact. `steps` counts the steps since the factor last changed.
    """

    factor: float = 65536.0
    steps: int = 0

    def after_step(self) -> "LossScale":
        """The scale after a step with finite gradients: doubled after 2000 such steps in a row."""
        return LossScale(2 * self.factor) if self.steps + 1 == _SCALE_GROWTH_INTERVAL else replace(self, steps=self.steps + 1)

    def after_overflow(self) -> "LossScale | None":
        """The scale after non-finite gradients: halved. None if the factor is 1 already, so scaling is not the cause."""
        return LossScale(self.factor / 2) if self.factor > 1 else None


class TrainingState(BaseModel):
    """The contents of state.json.

    `sequences_seen` is the position in the stream of batches. `weights_sha256` identifies the weights that the moments belong
    to; `moments_sha256` is the digest of the moments' file, or None. `loss_scale` is None unless in float16. `compiled` and
    `instruction_set` (None: no native kernels) are what computed the steps: `kernels`. That and the fields from `seed` on are
    compared when a run is resumed, to report what changed (config_diff.py). Older checkpoints have no `val_digest`, no
    `val_fraction`, and `native` instead of `instruction_set`: there was only one.

    `rollbacks` counts the runs of this model that were rolled back or ended early. Batches and dropout depend on it, so that
    the next run does not repeat such a run. `max_learning_rate` is the peak that the next run
    may use on the same corpus, None for any.
    `runs_without_gain` counts the runs since the last one with a new lowest validation loss. `curriculum` has the phases, the
    step at which they started, and the steps that they divide.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[2] = 2
    sequences_seen: int
    schedule: Schedule
    weights_sha256: str
    moments_sha256: str | None
    loss_scale: LossScale | None = None
    compiled: bool = False
    native: bool = Field(default=False, exclude=True)
    instruction_set: str | None = None
    rollbacks: int = 0
    max_learning_rate: float | None = None
    runs_without_gain: int = 0
    curriculum: Curriculum | None = None
    seed: int
    sequences_per_step: int
    dtype: str
    data_digest: str
    val_digest: str = ""
    val_fraction: float | None = None

    @property
    def kernels(self) -> str:
        """What computed the steps."""
        native = self.instruction_set or ("avx512_bf16" if self.native else None)
        return "torch.compile" if self.compiled else f"native, {native}" if native else "PyTorch's own"


def write_moments(
    folder: Path,
    moments: Mapping[str, "Array | Tensor"],
    release: Callable[[], None] = lambda: None,
    hashed: Callable[[bytes | memoryview], None] = lambda _: None,
) -> None:
    """Write the optimizer's moments into the checkpoint at `folder`. For `release` and `hashed` see `save_tensors`."""
    (folder / TRAINING_STATE).mkdir()
    save_tensors(folder / TRAINING_STATE / OPTIMIZER_FILE, moments, None, release, hashed)


def write_state(folder: Path, state: TrainingState) -> None:
    """Write state.json into the checkpoint at `folder`, after `write_moments`."""
    (folder / TRAINING_STATE / STATE_FILE).write_bytes(_as_json(state))


def write_spare(folder: Path, tensors: Mapping[str, "Array | Tensor"]) -> None:
    """Save tensors of an imported checkpoint that this model does not use, so that an export can include them again."""
    save_tensors(folder / TRAINING_STATE / SPARE_FILE, tensors)


def read_spare(folder: Path) -> dict[str, "Tensor"]:
    """The tensors saved by `write_spare`, by their names in the imported checkpoint; empty if there are none."""
    path = folder / TRAINING_STATE / SPARE_FILE
    try:
        return _load(path) if path.is_file() else {}
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} can't be read: {error}. It was not used.", "Delete it to continue without it."
        ) from error


def read_counters(folder: ModelFolder) -> TrainingState | None:
    """The state of a checkpoint without its moments; None if it has no training state. Raises CheckpointError if damaged."""
    return read_state_file(folder.path / TRAINING_STATE) if folder.has_training_state else None


def update_state(folder: ModelFolder, **changes: object) -> None:
    """Change fields of the state of a checkpoint, atomically. Raises CheckpointError if it can't be read."""
    place = folder.path / TRAINING_STATE
    state = read_state_file(place).model_copy(update=changes)
    with new_file(place / STATE_FILE) as file:
        file.write(_as_json(state))


def check_state(folder: ModelFolder) -> None:
    """Verify the sha256 of the moments, if the state records it. Raises CheckpointError if it differs."""
    if folder.has_training_state:
        _check_moments(folder.path / TRAINING_STATE, read_state_file(folder.path / TRAINING_STATE))


def read_state(folder: Path, weights_sha256: str) -> tuple[TrainingState, dict[str, "Tensor"]]:
    """Read the state and the optimizer's moments in `folder`.

    Raises CheckpointError if they are damaged, or belong to weights with another digest than `weights_sha256`.
    """
    place = folder / TRAINING_STATE
    state = read_state_file(place)
    _check_moments(place, state)
    if state.weights_sha256 != weights_sha256:
        raise CheckpointError(
            f"{place} does not belong to the weights in {folder / 'model.safetensors'}. Training was not resumed.",
            _HINT,
        )
    try:
        return state, _load(place / OPTIMIZER_FILE)
    except (OSError, SafetensorError) as error:
        raise _unreadable(place, error) from error


def _as_json(state: TrainingState) -> bytes:
    return state.model_dump_json(indent=2).encode() + b"\n"


def _load(path: Path) -> dict[str, "Tensor"]:
    with safe_open(path, "pt") as file:
        tensors: dict[str, Tensor] = file.get_tensors()
        return tensors


def read_state_file(place: Path) -> TrainingState:
    """The state.json in the folder `place`. Raises CheckpointError if it is damaged."""
    try:
        return TrainingState.model_validate_json((place / STATE_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise _unreadable(place, error) from error


def _check_moments(place: Path, state: TrainingState) -> None:
    try:
        digest = sha256(place / OPTIMIZER_FILE) if state.moments_sha256 else None
    except OSError as error:
        raise _unreadable(place, error) from error
    if digest != state.moments_sha256:
        raise CheckpointError(
            f"{place / OPTIMIZER_FILE} is damaged: its sha256 is {digest}, and {STATE_FILE} records {state.moments_sha256}. "
            "Training was not resumed.",
            _HINT,
        )


def _unreadable(place: Path, error: Exception) -> CheckpointError:
    reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error  # str() of it has several lines
    return CheckpointError(f"{place} can't be read: {reason}. Training was not resumed.", _HINT)
