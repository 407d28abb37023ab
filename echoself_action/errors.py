"""Every error that a user can meet, each with its exit code.

    EchoselfError
    ├── InputError        2  an input, the configuration or the corpus is wrong
    │   └── MissingTokenError
    ├── CheckpointError   3  a checkpoint or a model folder can't be used, or can't be written
    ├── TrainingError     3  a run can't go on
    │   └── LostProcessError
    └── HubError          4  the Hub refused, or can't be reached
        └── MovedOnError

A message says what was wrong, with the value and the place, and what was therefore not done; `hint` says what to change.
Too little memory ends with 3, wherever it was met. Anything else that is raised is a bug of ours: exit 1, with a traceback.
"""

import errno
from collections.abc import Sequence


class EchoselfError(Exception):
    """Something the user can mend. `message` says what is wrong; `hint` says what to change.

    `file` (and `line` in it, from 1) is where, if it is a file of the user's.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, file: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = file
        self.line = line

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InputError(EchoselfError):
    """An input is wrong. One error may carry several `problems`, so that all of them are mended in one go."""

    exit_code = 2

    def __init__(
        self,
        message: str,
        hint: str = "",
        problems: Sequence["InputError"] = (),
        *,
        file: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message, hint, file=file, line=line)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"- {problem}" for problem in self.problems)])


class MissingTokenError(InputError):
    """Something is to be written to a Hub that wants a token, and there is none."""


class CheckpointError(EchoselfError):
    """A checkpoint or a model folder that is missing, broken, of the wrong kind, or that can't be written."""

    exit_code = 3


class TrainingError(EchoselfError):
    """A run that can't go on, such as one whose loss is no longer a number. Its last good checkpoint is kept."""

    exit_code = 3


class LostProcessError(TrainingError):
    """Of several processes that train one model, one is gone, so that what it had to give is missing."""


class HubError(EchoselfError):
    """The Hub refused a request, or can't be reached."""

    exit_code = 4


class MovedOnError(HubError):
    """Somebody else published since the Hub was looked at, and nothing of theirs was overwritten."""


# of PyTorch's allocators and of its files in memory, of the libraries that it calls, and of Python where there is none for a
# thread's stack
_NO_MEMORY = (
    "out of memory", "can't allocate memory", "Cannot allocate memory", "bad_alloc", "could not create a primitive",
    "can't start new thread",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or PyTorch could not get memory, from a GPU or from the system."""
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    return said or isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def in_short(error: BaseException) -> str:
    """The first line of what it says, cut off where that is long; its class's name where it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0][:200] if said else type(error).__name__


GATE_REFUSED = 5  # the exit code of a run whose model was not good enough to publish
INTERRUPTED = 130
