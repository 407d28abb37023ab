"""Asynchronous checkpointing: training waits for a copy of the tensors in memory, not for the disk."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from ..checkpoint.model_folder import ModelFolder, read_model_folder, record
from ..checkpoint.select import prune
from ..errors import CheckpointError, is_out_of_memory
from .run import Run, Snapshot


class AsyncCheckpointer:
    """Writes the checkpoints of one run in a background thread, one at a time.

    A failed save is reported through `warn` and leaves earlier checkpoints in place. `saved` is the last written checkpoint,
    `longest_s` the duration of the slowest save, and `waited_s` the total time that training waited for saves. Old checkpoints
    are deleted until `keep` are left, but not the stable one of step `start`, to which the run may be rolled back.
    """

    def __init__(self, output_dir: Path, keep: int, warn: Callable[[str], None], start: int | None = None) -> None:
        self.output_dir, self.keep, self.warn, self.start = output_dir, keep, warn, start
        self.saved: ModelFolder | None = None
        self._written: list[Path] = []
        self.longest_s = self.waited_s = 0.0
        self.last_at = time.monotonic()
        self._thread = ThreadPoolExecutor(1, "saver")
        self._pending: Future[ModelFolder] | None = None
        self._copies: dict[str, Tensor] = {}
        self._failed: CheckpointError | None = None

    def save(self, run: Run) -> None:
        """Copy the run's state and write it as `checkpoint-<step>` in the background."""
        began = time.monotonic()
        self.wait()
        snapshot = run.snapshot(self.output_dir, self._copies)
        if snapshot:  # the main process
            self._pending = self._thread.submit(self._write, snapshot)
        self.last_at = time.monotonic()
        self.waited_s += self.last_at - began

    def wait(self) -> None:
        """Wait for the pending save, if there is one."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            self.saved, self._failed = pending.result(), None
        except CheckpointError as error:
            self._failed = error
            self.warn(f"{error.message} Training continues.")

    def finish(self, **facts: object) -> ModelFolder:
        """Wait for the last save and return its checkpoint. Raises CheckpointError if that save failed.

        `facts` are recorded in the metadata of every checkpoint of this run that was kept.
        """
        self.wait()
        self._thread.shutdown()
        if self._failed:
            raise self._failed
        assert self.saved
        try:
            for path in filter(Path.is_dir, self._written):
                folder = record(read_model_folder(path), overwrite=True, **facts)
                self.saved = folder if path == self.saved.path else self.saved
        except CheckpointError as error:
            self.warn(f"{error.message} The checkpoint keeps the facts that it was written with.")
        return self.saved

    def _write(self, snapshot: Snapshot) -> ModelFolder:
        began = time.monotonic()
        try:
            folder = snapshot.write()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise CheckpointError(f"{snapshot.path} was not written: out of memory ({error}).") from error
        self._written.append(folder.path)
        try:
            prune(self.output_dir, self.keep, self.start)
        except OSError as error:
            self.warn(f"an old checkpoint could not be deleted: {error}. Training continues.")
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        return folder
