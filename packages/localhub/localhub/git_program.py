"""The environment in which git runs: without the settings of this machine and its user, which would change how repos behave."""

import os


def environment(**variables: str) -> dict[str, str]:
    """`variables` are added, such as GIT_DIR."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **variables,
    }
