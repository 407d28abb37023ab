"""The caches of a run, below `.echoself` in the working directory. On Actions that is the repository's workspace."""

from pathlib import Path

TOKEN_CACHE = Path(".echoself/tokens")
DATASET_CACHE = Path(".echoself/datasets")
LOCAL_HUB = Path(".echoself/hub")  # the data of `hub: local`
