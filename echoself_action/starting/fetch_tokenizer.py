"""The tokenizer of a model on the Hub, for the input `tokenizer`: owner/name or owner/name@revision."""

import re
import tempfile
from pathlib import Path

from ..checkpoint.atomic import TEMPORARY_PREFIX
from ..config.input_types import REVISION
from ..config.inputs import Inputs
from ..corpus.make_tokenizer import is_path, make_tokenizer
from ..corpus.tokenizer import CONFIG_FILE, TOKENIZER_FILE, Tokenizer, is_given_name
from ..corpus.vocab_merges import VOCABULARY_FILES, WORDPIECE_FILE
from ..errors import HubError, InputError
from ..hub.client import open_hub
from ..hub.fetch import download
from ..hub.repo import MAIN, find_repo
from ..hub.repo_id import REPO
from ..report.log import note
from ..workspace import TOKEN_CACHE, create_cache

_ON_THE_HUB = re.compile(f"({REPO})(?:@({REVISION}))?")
_LARGEST = 100 << 20  # bytes of a file; a vocabulary of 256,000 tokens has 35 MB
# config.json may name the end of a text
_FILES = (TOKENIZER_FILE, CONFIG_FILE, "special_tokens_map.json", "config.json", "generation_config.json", *VOCABULARY_FILES)


def is_on_the_hub(spec: str) -> bool:
    """Whether `spec` names a repo, and is not the path of a file or folder here."""
    return not is_path(spec) and not Path(spec).exists() and _ON_THE_HUB.fullmatch(spec) is not None


def fetch_tokenizer(inputs: Inputs, spec: str) -> Tokenizer:
    """The tokenizer of the repo `spec`, by whose name it is called.

    Raises HubError if the repo can't be read, InputError if it has no tokenizer that can be.
    """
    named = _ON_THE_HUB.fullmatch(spec)
    assert named
    repo_id, revision = named[1], named[2] or MAIN
    create_cache(TOKEN_CACHE)
    with (
        open_hub(inputs.hub, inputs.token, note) as hub,
        tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=TOKEN_CACHE) as temporary,
    ):
        listing = find_repo(hub, repo_id, revision)
        if listing is None:
            raise HubError(
                f"tokenizer: there is no path {spec}, and {repo_id} on {hub.endpoint} does not exist at revision {revision}, "
                "or is not accessible. Nothing was trained.",
                "Check the name, and which repos the token has access to.",
            )
        place = f"{repo_id} at {listing.commit[:12]}"
        found = [name for name in _FILES if name in listing.files]
        if not {TOKENIZER_FILE, WORDPIECE_FILE} & {*found} and not {*VOCABULARY_FILES[:2]} <= {*found}:
            raise InputError(
                f"tokenizer: {place} has neither {TOKENIZER_FILE} nor {' and '.join(VOCABULARY_FILES[:2])}. Nothing was "
                "trained.",
                "Use a repo with one of these: save_pretrained of transformers writes a tokenizer.json.",
            )
        if large := [name for name in found if listing.files[name].size > _LARGEST]:
            raise InputError(
                f"tokenizer: {large[0]} of {place} has {listing.files[large[0]].size:,} bytes, and a tokenizer has at most "
                f"{_LARGEST:,}. Nothing was downloaded.",
                "Check the name of the repo.",
            )
        for name in found:
            download(hub, repo_id, listing.commit, listing.files[name], Path(temporary))
        try:
            tokenizer = make_tokenizer(temporary, lambda: iter(()), lambda remark: note(remark.replace(temporary, place)))
        except InputError as error:
            raise InputError(error.message.replace(temporary, place), error.hint) from None
    note(f"tokenizer: that of {place}")
    if is_given_name(tokenizer.name):
        tokenizer.name = spec
    return tokenizer
