"""Starts a new model from a pretrained one, the input `init_from`: step 0 of a new run, with the tokenizer of that model.

It is used only if there is nothing to resume from. What it reads: a GPT-2 on the Hub or in a folder in any form in which
transformers saves it (formats/transformers_folder.py), a folder of checkpoints (the best), and the `.pt` files that
`checkpoint` reads. A shorter `block_size` keeps the first positions; for texts up to that length the logits are the same.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..checkpoint.architectures import NANECHO_PATHS, architecture_of
from ..checkpoint.atomic import TEMPORARY_PREFIX
from ..checkpoint.metadata import PretrainedFacts, read_metadata
from ..checkpoint.model_folder import CONFIG_FILE, ModelFolder
from ..checkpoint.select import best
from ..config.input_types import REVISION
from ..config.inputs import Inputs
from ..errors import CheckpointError, HubError, InputError
from ..formats.checkpoint_folder import checkpoint_in
from ..formats.import_checkpoint import import_pretrained, read_checkpoint_file
from ..formats.imported_model import Given, ImportedModel
from ..formats.transformers_config import read_pretrained_config
from ..formats.transformers_folder import cropped, files_to_read, read_folder
from ..hub.client import open_hub
from ..hub.endpoint import Hub
from ..hub.fetch import download
from ..hub.repo import MAIN, Listing, find_repo
from ..hub.repo_id import REPO
from ..model import ModelConfig
from ..model.config import GPT2Config
from ..report.log import note, part
from ..training.fine_tuning import DROPOUT
from ..workspace import create_output_dir

_ON_THE_HUB = re.compile(f"({REPO})(?:@({REVISION}))?")
_FORMS = "Give a model on the Hub as owner/name or owner/name@revision, a folder, or a `.pt` file."
_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "bias", "activation")


def with_init_from(inputs: Inputs, start: ModelFolder | None) -> ModelFolder | None:
    """`start`, the checkpoint to resume from; if there is none, the model of `init_from`; None for random weights.

    Raises InputError if `init_from` does not exist or contradicts other inputs, CheckpointError if it can't be used, HubError.
    """
    if inputs.init_from is None:
        return start
    if start is None:
        return _initial(inputs, inputs.init_from)
    origin = start.metadata.init_from if start.metadata else None
    known = f", whose run started from {origin}" if origin else ""
    note(f"init_from: {inputs.init_from} is not used, because {start.path} is resumed{known}")
    return start


def pretrained_config(inputs: Inputs, given: str) -> GPT2Config | None:
    """The config of the model that `init_from` gives, without its weights; None for a checkpoint file, which is not read.

    Raises as `with_init_from`.
    """
    path, named = Path(given), _ON_THE_HUB.fullmatch(given)
    if path.is_dir() and (trained := best(path)):
        path = trained.path
    if path.is_file() or (path.is_dir() and checkpoint_in(path)):
        return None
    if path.is_dir():
        config = read_pretrained_config(path)
        _facts(inputs, config, path.name, None)
    elif named:
        with tempfile.TemporaryDirectory() as temporary, open_hub(inputs.hub, inputs.token, note) as hub:
            listing = _find(inputs, hub, named[1], named[2] or MAIN)
            if CONFIG_FILE in listing.files:
                download(hub, named[1], listing.commit, listing.files[CONFIG_FILE], Path(temporary))
            config = _checked_config(inputs, Path(temporary), named[1], listing.commit)
    else:
        raise InputError(f"init_from: {given!r} is neither an existing path nor a valid repo id. Nothing was trained.", _FORMS)
    return replace(config, block_size=min(config.block_size, inputs.block_size or config.block_size))


def is_fine_tuned(start: ModelFolder | None) -> bool:
    """Whether the run of this checkpoint was initialised from a pretrained model, which lower learning rates are for."""
    return bool(start and start.metadata and start.metadata.init_from)


def require_same_shape(inputs: Inputs, config: ModelConfig, problem: str, hint: str, *, may_crop: bool = False) -> None:
    """Raises InputError, which begins with `problem`, if the sizes given are not those of `config`.

    `may_crop`: block_size may be smaller.
    """
    different = [
        f"{name} is {given}, and the {'model' if may_crop else 'checkpoint'} has {getattr(config, name)}"
        for name in _SIZES
        if (given := getattr(inputs, name)) not in (None, getattr(config, name, given))
        and not (may_crop and name == "block_size" and given < config.block_size)
    ]
    name = architecture_of(config).name
    paths = [path for path in NANECHO_PATHS if getattr(config, f"enable_{path}", False)]
    if inputs.nanecho_paths is not None and set(inputs.nanecho_paths) - {"none"} != set(paths):
        given = ", ".join(inputs.nanecho_paths)
        different.append(f"nanecho_paths is {given}, and the checkpoint has {', '.join(paths) or 'none'}")
    if inputs.architecture not in (None, name):
        different.append(f"architecture is {inputs.architecture}, and the checkpoint is {name}")
    if different:
        raise InputError(f"{problem}: {'; '.join(different)}. Nothing was trained.", hint)


def _initial(inputs: Inputs, given: str) -> ModelFolder:
    create_output_dir(inputs.output_dir)
    with part("Pretrained model"), _found(inputs, given) as (source, facts):
        assert isinstance(source.config, GPT2Config)
        remarks = []
        if inputs.block_size and inputs.block_size < facts.block_size:
            source = cropped(source, inputs.block_size)
            remarks.append(f"its context was cropped from {facts.block_size} to the first {inputs.block_size} positions")
        if inputs.dropout is None and source.config.dropout != DROPOUT:
            note(f"dropout: {DROPOUT:g} instead of its {source.config.dropout:g}, for speed; set dropout to change that")
            source = replace(source, config=source.config.with_dropout(DROPOUT))
        facts = facts.model_copy(update={"remarks": remarks})
        for remark in remarks:
            note(remark)
        known = read_metadata(source.origin.path.parent)  # of this program's own models only
        settings = {"optimizer": known.settings["optimizer"]} if known and "optimizer" in known.settings else {}
        folder = import_pretrained(source, inputs.output_dir, _tokenizer(inputs, source), facts, settings, note)
    note(f"start: {facts} (init_from), step 0 of a new run, because there is no checkpoint to resume from")
    return folder


@contextmanager
def _found(inputs: Inputs, given: str) -> Iterator[tuple[ImportedModel, PretrainedFacts]]:
    """The model, read and checked against the other inputs; its files are needed until the block ends."""
    path = Path(given)
    if path.is_dir() and not best(path) and (file := checkpoint_in(path)):
        note(f"{path} holds the checkpoint {file.name}")
        path = file
    if path.is_file():
        source = read_checkpoint_file(path, note, Given(inputs.n_head, inputs.activation))
        yield source, _facts(inputs, source.config, path.name, None)
    elif path.is_dir():
        trained = None if (path / CONFIG_FILE).is_file() else best(path)
        folder = trained.path if trained else path
        config = read_pretrained_config(folder)
        facts = _facts(inputs, config, folder.resolve().name, None)
        yield read_folder(folder, config), facts
    elif named := _ON_THE_HUB.fullmatch(given):
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=inputs.output_dir) as temporary:
            folder = Path(temporary)
            commit, config = _download(inputs, named[1], named[2] or MAIN, folder)
            yield read_folder(folder, config), _facts(inputs, config, named[1], commit)
    else:
        raise InputError(f"init_from: {given!r} is neither an existing path nor a valid repo id. Nothing was trained.", _FORMS)


def _download(inputs: Inputs, repo_id: str, revision: str, folder: Path) -> tuple[str, GPT2Config]:
    """Download the files of the model, after a look at its config; returns the commit and the config."""
    with open_hub(inputs.hub, inputs.token, note) as hub:
        listing = _find(inputs, hub, repo_id, revision)
        names = files_to_read(listing.files)
        size = sum(listing.files[name].size for name in names)
        config: GPT2Config | None = None
        for name in names:  # config.json is the first
            if config is None and name != CONFIG_FILE:
                config = _checked_config(inputs, folder, repo_id, listing.commit)
                note(f"downloading {repo_id} at {listing.commit}: {len(names)} files, {size:,} bytes")
            download(hub, repo_id, listing.commit, listing.files[name], folder)
        return listing.commit, config or _checked_config(inputs, folder, repo_id, listing.commit)


def _find(inputs: Inputs, hub: Hub, repo_id: str, revision: str) -> Listing:
    listing = find_repo(hub, repo_id, revision)
    if listing is None:
        raise HubError(
            f"init_from: there is no path {inputs.init_from}, and {repo_id} on {hub.endpoint} does not exist at revision "
            f"{revision}, or is not accessible. Nothing was trained.",
            f"Check the name, and which repos the token has access to. {_FORMS}",
        )
    return listing


def _checked_config(inputs: Inputs, folder: Path, repo_id: str, commit: str) -> GPT2Config:
    """The config, checked before the weights are downloaded."""
    try:
        config = read_pretrained_config(folder)
    except CheckpointError as error:
        message = error.message.replace(str(folder), f"{repo_id} at {commit[:12]}")
        raise CheckpointError(f"init_from: {message}", error.hint) from None
    _facts(inputs, config, repo_id, commit)
    return config


def _facts(inputs: Inputs, config: ModelConfig, source: str, commit: str | None) -> PretrainedFacts:
    """What is recorded about it. Raises InputError if it contradicts other inputs, CheckpointError if it is not a GPT-2."""
    facts = PretrainedFacts(source=source, commit=commit, block_size=config.block_size)
    if not isinstance(config, GPT2Config):
        raise CheckpointError(
            f"init_from: {source} is a {architecture_of(config).display_name} model, and only a GPT-2 can start a new run. "
            "Nothing was trained.",
            "To resume it, use checkpoint.",
        )
    if inputs.block_size and inputs.block_size > config.block_size:
        raise InputError(
            f"init_from: {facts} has embeddings of {config.block_size} positions, and block_size is {inputs.block_size}: the "
            "others would be untrained. Nothing was trained.",
            f"Use a block_size of at most {config.block_size}, or remove it.",
        )
    problem = f"init_from: {facts} has another shape"
    require_same_shape(inputs, config, problem, "Remove these inputs, or init_from.", may_crop=True)
    return facts


def _tokenizer(inputs: Inputs, source: ImportedModel) -> str | None:
    """The spec of `tokenizer`, for a model without a vocabulary. If it has one, tokenize_corpus.py compares the two."""
    folder = source.origin.path.parent
    has_own = any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "vocab.txt", "meta.pkl"))
    return None if has_own or (inputs.tokenizer or "").startswith("bpe:") else inputs.tokenizer
