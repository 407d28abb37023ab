"""The environment in which git runs: without the settings of this machine and its user, which would change how repos behave."""

import os

# Its memory does not depend on the sizes of files and packs: above 1 MiB, git streams files and computes no differences.
FRUGAL = (
    *("-c", "core.bigFileThreshold=1m"),
    *("-c", "core.deltaBaseCacheLimit=16m"),
    *("-c", "core.packedGitWindowSize=1m"),
    *("-c", "core.packedGitLimit=16m"),
    *("-c", "pack.threads=1"),
    *("-c", "pack.windowMemory=16m"),
    *("-c", "pack.deltaCacheSize=4m"),
)


def environment(**variables: str) -> dict[str, str]:
    """`variables` are added, such as GIT_DIR."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **variables,
    }
