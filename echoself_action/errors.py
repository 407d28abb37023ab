"""Every error that a user can meet, and the exit codes.

    EchoselfError
    ├── InputError        2  an input, the configuration or the corpus is invalid
    │   ├── MissingTokenError
    │   └── MissingLocalHubError
    ├── CheckpointError   3  a checkpoint or model folder can't be used, or can't be written
    ├── TokenizerError    3  a tokenizer can't be used for a corpus
    ├── TrainingError     3  a run can't continue
    │   ├── DivergedError
    │   └── LostProcessError
    └── HubError          4  the Hub refused, or can't be reached
        └── MovedOnError

A message says what was wrong, with the value and the place, and what was therefore not done; `hint` says what to change.
Running out of memory exits with 3, wherever it happens. Any other exception is a bug of this program: exit 1, with a traceback.
"""

import errno
from collections.abc import Sequence

BUG, GATE_REFUSED, INTERRUPTED = 1, 5, 130  # the exit codes that are not of an error below
EXIT_CODES = {
    0: "done",
    BUG: "internal error",
    2: "invalid input",
    3: "unusable checkpoint, corpus or model",
    4: "Hub error",
    GATE_REFUSED: "refused by the gate",
    INTERRUPTED: "interrupted",
}


class EchoselfError(Exception):
    """An error that the user can fix. `message` says what is wrong; `hint` says what to change.

    `file` (and the 1-based `line` in it) is the place, if it is in a file of the user's.
    """

    exit_code = BUG

    def __init__(self, message: str, hint: str = "", *, file: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = file
        self.line = line

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InputError(EchoselfError):
    """An invalid input. One error may carry several `problems`, so that all of them can be fixed in one go."""

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
    """The Hub requires a token to write, and none was given."""


class MissingLocalHubError(InputError):
    """`hub: local`, a folder as `hub`, or `echoself hub` without the `localhub` package, which only they need."""

    def __init__(self, asked_by: str, command: str) -> None:
        super().__init__(
            f"{asked_by} needs the localhub package, which is not installed. Nothing was done.", f"Install it: {command}"
        )


class CheckpointError(EchoselfError):
    """A checkpoint or model folder that is missing, damaged, of the wrong kind, or that can't be written."""

    exit_code = 3


class TokenizerError(EchoselfError):
    """A tokenizer that can't encode a text of the corpus, loses too much of it, or gives text the end-of-text id."""

    exit_code = 3


class TrainingError(EchoselfError):
    """A run that can't continue, for example because its loss is NaN. Its last good checkpoint is kept."""

    exit_code = 3


class DivergedError(TrainingError):
    """A loss or a gradient norm is NaN or infinite."""


class LostProcessError(TrainingError):
    """One of the processes that train a model together has exited, so its gradients are missing."""


class HubError(EchoselfError):
    """The Hub refused a request, or can't be reached."""

    exit_code = 4


class MovedOnError(HubError):
    """Another job published after this one read the repo. Nothing was overwritten."""


# The messages of PyTorch's allocators, of its shared memory and of the libraries it calls, and Python's for a thread's stack.
_OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "Cannot allocate memory", "bad_alloc", "could not create a primitive",
    "can't start new thread",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or PyTorch could not allocate memory, on a GPU or on the host."""
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY):
        return True
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def in_short(error: BaseException) -> str:
    """The first line of the error's text, at most 200 characters; the name of its class if it has no text."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
