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


class InputTable(BaseModel):
    """A table of inputs. Defaults are validated too, and errors do not repeat a value, which may be a secret."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True, allow_inf_nan=False, defer_build=True
    )


def input_field(
    help: str,
    modes: tuple[Mode, ...],
    default: Any = None,
    *,
    shown: str | None = None,
    form: str | None = None,
    effect: str | None = None,
    **limits: Any,
) -> Any:
    """Declare an input of `modes`.

    `shown` is the default as documentation shows it, if it depends on other inputs. `form` is the advice for a value of an
    invalid format. `effect` is what a resumed run reports if the input differs from the run before. `limits` are pydantic's.
    """
    extra: dict[str, Any] = {"modes": list(modes), "shown": shown, "form": form, "effect": effect}
    return Field(default, description=help, json_schema_extra=extra, **limits)


def declared(field: FieldInfo, name: Literal["modes", "shown", "form", "effect"]) -> Any:
    """What `input_field` was given as `name`."""
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return extra[name]
