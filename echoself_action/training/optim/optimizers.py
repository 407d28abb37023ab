"""The optimizers that a run can choose, one record each.

A new one is a record and a name here, a `PlainOptimizer` in a module beside this file, and its entry in `param_groups.CLASSES`.
This module describes only: it loads no PyTorch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

OptimizerName = Literal["muon", "adamw"]


@dataclass(frozen=True)
class OptimizerRecord:
    """`learning_rates` are the default peaks by preset: they fall with the width, about as its square root.

    `block_matrices_only`: it updates the matrices inside the blocks, and AdamW all other parameters.
    """

    learning_rates: Mapping[str, float]
    block_matrices_only: bool = False


OPTIMIZERS: Mapping[OptimizerName, OptimizerRecord] = {
    "muon": OptimizerRecord({"ci": 1e-2, "scheduled": 8e-3, "full": 6e-3}, block_matrices_only=True),
    "adamw": OptimizerRecord({"ci": 1e-3, "scheduled": 8e-4, "full": 6e-4}),
}
