"""The files for other programs in a pull request: each must be what this program exports from the proposed model.

They are not downloaded: an export always gives the same bytes, so that its checksums suffice.
"""

import json
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from ..checkpoint.model_folder import ModelFolder
from ..errors import CheckpointError
from ..formats.runtimes.runtime_formats import PUBLISHED, RuntimeFormat
from ..hub.repo import RemoteFile, same_content

EXPORTS_SUFFIX = ".exports.json"  # of the file beside the model's folder, which lists the proposed exports


def formats_of(names: Collection[str]) -> list[RuntimeFormat]:
    """The formats that files of a repo belong to."""
    return [one for one in PUBLISHED.values() if not set(one.published).isdisjoint(names)]


def check_proposed_exports(model: ModelFolder) -> str:
    """Compare the exports that are listed beside the folder of `model`, if any, with those of `model`, and run these.

    Returns what was found. Raises CheckpointError for a file that differs, or that its program computes differently.
    """
    listing = model.path.with_suffix(EXPORTS_SUFFIX)
    if not listing.exists():
        return ""
    proposed = {file.path: file for file in (RemoteFile(**values) for values in json.loads(listing.read_bytes()))}
    for one in formats_of(proposed):
        with TemporaryDirectory() as folder:
            made = one.export(model, Path(folder))
            others = [
                name for name, file in proposed.items() if name in one.published and not same_content(made.files[name], file)
            ]
            if others:
                raise CheckpointError(f"{', '.join(others)}: not what this program exports from the proposed model.")
            one.check(model, made)
    return f"; {len(proposed)} exported files are those of this model"
