"""The available optimizers and their default learning rates.

To add an optimizer, add its name and record here, an `EagerOptimizer` in a new module of this package, and its class to
`param_groups.CLASSES`. This module does not import PyTorch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

OptimizerName = Literal["muon", "adamw"]


@dataclass(frozen=True)
class OptimizerRecord:
    """`learning_rates` are the default peak rates by preset, about proportional to the inverse square root of the width.
    `fine_tuning_rate` is the default peak rate, at a width of 256, of a model that was initialised from a pretrained one.

    `block_matrices_only`: the optimizer updates the matrices inside the blocks, and AdamW all other parameters.
    """

    learning_rates: Mapping[str, float]
    fine_tuning_rate: float
    block_matrices_only: bool = False


OPTIMIZERS: Mapping[OptimizerName, OptimizerRecord] = {
    "muon": OptimizerRecord({"ci": 1e-2, "scheduled": 8e-3, "full": 6e-3}, 5e-3, block_matrices_only=True),
    "adamw": OptimizerRecord({"ci": 1e-3, "scheduled": 8e-4, "full": 6e-4}, 1.7e-4),
}
