"""How an input is declared: its help text, the modes that have it, its default and its limits.

The training inputs are declared in training/settings.py and all others in config/inputs.py, so this module is below both.
"""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Mode = Literal["train", "deploy", "pull", "cycle", "compare"]
MODES: tuple[Mode, ...] = get_args(Mode)
TRAINS: tuple[Mode, ...] = ("train", "cycle")
PUBLISHES: tuple[Mode, ...] = ("deploy", "cycle")
READS_CORPUS: tuple[Mode, ...] = (*TRAINS, "deploy", "compare")

Group = Literal[
    "run", "hub", "start", "data", "model", "training", "schedule", "evaluation", "hardware", "checkpoints", "publishing",
    "card", "comparing", "signing",
]  # fmt: skip
# The headings of the groups, in the order of the documentation.
GROUPS: dict[Group, str] = {
    "run": "The run",
    "hub": "The Hub",
    "start": "Where a run starts",
    "data": "Data",
    "model": "The model",
    "training": "Training",
    "schedule": "Schedule and early stopping",
    "evaluation": "Evaluation and logging",
    "hardware": "Hardware and precision",
    "checkpoints": "Checkpoints",
    "publishing": "Publishing",
    "card": "Model card and license",
    "comparing": "Comparing",
    "signing": "Signing and verification",
}


class InputTable(BaseModel):
    """A table of inputs. Defaults are validated too, and errors do not repeat a value, which may be a secret."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True, allow_inf_nan=False, defer_build=True
    )


def input_field(
    group: Group,
    help: str,
    modes: tuple[Mode, ...],
    default: Any = None,
    *,
    shown: str | None = None,
    form: str | None = None,
    effect: str | None = None,
    **limits: Any,
) -> Any:
    """Declare an input of `modes`, which documentation lists in `group`.

    `shown` is the default as documentation shows it, if it depends on other inputs. `form` is the advice for a value of an
    invalid format. `effect` is what a resumed run reports if the input differs from the run before. `limits` are pydantic's.
    """
    extra: dict[str, Any] = {"group": group, "modes": list(modes), "shown": shown, "form": form, "effect": effect}
    return Field(default, description=help, json_schema_extra=extra, **limits)


def declared(field: FieldInfo, name: Literal["group", "modes", "shown", "form", "effect"]) -> Any:
    """What `input_field` was given as `name`."""
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return extra[name]
