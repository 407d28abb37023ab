"""Which of the processes of a run this one is. Does not load PyTorch."""

import os


def is_distributed() -> bool:
    """Whether this process was started by torchrun or by `launch`, as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_worker() -> bool:
    """Whether this is a process other than the main process (rank > 0)."""
    return is_distributed() and int(os.environ["RANK"]) > 0
