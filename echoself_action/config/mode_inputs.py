"""A type of the inputs for each mode, in which the inputs that the mode requires are required."""

from typing import Any

from pydantic import model_validator

from ..training.auto_preset import Shape, run_settings
from ..training.fine_tuning import fine_tuning_rate, fine_tuning_steps
from ..training.optim.optimizers import OPTIMIZERS, OptimizerName
from ..training.settings import PRESETS, TrainingSettings
from .input_types import Candidates, PathText, PullRequests, RepoId
from .inputs import Inputs


class TrainInputs(Inputs):
    """The inputs of a run that trains."""

    def training_settings(
        self, default_optimizer: OptimizerName, model: Shape, *, fine_tunes: bool = False
    ) -> TrainingSettings:
        """Each setting is the input of its name, or its default: the preset's, the optimizer's, or that of the `model`.

        `fine_tunes`: the model was initialised from a pretrained one.
        """
        optimizer = self.optimizer or default_optimizer
        given = {name: value for name in TrainingSettings.model_fields if (value := getattr(self, name)) is not None}
        defaults = self._defaults(optimizer, model)
        if fine_tunes:
            defaults |= fine_tuning_rate(model, optimizer)
            defaults |= fine_tuning_steps(model, self.max_iters) if self.preset == "auto" else {}
        return TrainingSettings(**defaults | given | {"optimizer": optimizer})

    def _defaults(self, optimizer: OptimizerName, model: Shape) -> dict[str, Any]:
        """The preset's defaults of the training settings."""
        names = TrainingSettings.model_fields
        if self.preset == "auto":
            unset = dict.fromkeys(("max_iters", "eval_interval", "checkpoint_interval", "log_interval"))
            minutes = {"max_minutes": self.size("max_minutes") or 0.0}
            return unset | minutes | run_settings(model, optimizer, self.max_iters)
        rate = OPTIMIZERS[optimizer].learning_rates[self.preset]
        return {"learning_rate": rate} | {name: value for name, value in vars(PRESETS[self.preset]).items() if name in names}


class DeployInputs(Inputs):
    """The inputs of a run that publishes."""

    repo_id: RepoId


class CycleInputs(DeployInputs, TrainInputs):  # in this order: pydantic takes a field from the first base
    """The inputs of a run that trains and publishes."""


class PullInputs(Inputs):
    """The inputs of a pull from the Hub."""

    repo_id: RepoId


class ImportInputs(Inputs):
    """The inputs of a pull that imports a checkpoint instead."""

    checkpoint: PathText


class CompareInputs(Inputs):
    """The inputs of a comparison."""

    candidates: Candidates

    @model_validator(mode="before")
    @classmethod
    def _default_candidates(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The published model and the best checkpoint in output_dir."""
        if "candidates" in values or "repo_id" not in values:
            return values
        revision = values.get("revision", Inputs.model_fields["revision"].default)
        published = values["repo_id"] if revision == "main" else f"{values['repo_id']}@{revision}"
        return {**values, "candidates": [published, str(values.get("output_dir", Inputs.model_fields["output_dir"].default))]}


class ReviewInputs(Inputs):
    """The inputs of a comparison that reviews pull requests."""

    repo_id: RepoId
    pull_requests: PullRequests


def type_of(mode: object, given: Any) -> type[Inputs]:
    """The type of the inputs of `mode` if the inputs in `given` are set; `Inputs` if it is not a mode."""
    if mode == "pull":
        return ImportInputs if "checkpoint" in given else PullInputs
    if mode == "compare":
        return ReviewInputs if "pull_requests" in given else CompareInputs
    types: dict[object, type[Inputs]] = {"train": TrainInputs, "deploy": DeployInputs, "cycle": CycleInputs}
    return types.get(mode, Inputs) if isinstance(mode, str) else Inputs
