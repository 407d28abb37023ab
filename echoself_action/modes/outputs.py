"""The outputs that more than one mode has."""

from ..checkpoint.folder import ModelFolder


def model_outputs(model: ModelFolder) -> dict[str, str]:
    """The outputs that say which model it is."""
    facts = model.metadata
    losses = {name: getattr(facts, name) if facts else None for name in ("train_loss", "val_loss", "best_val_loss")}
    return {
        "checkpoint": str(model.path),
        "model_dir": str(model.path),
        "step": str(model.step),
        **{name: "" if value is None else f"{value:.6f}" for name, value in losses.items()},
    }
