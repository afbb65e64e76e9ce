"""What a runner is handed on its way: by name in its environment, and by a file without a name.

A runner reads this before anything else, so nothing slow to import is needed here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

TOKEN_VARIABLE = "DRAGOMAN_RUN_TOKEN"  # noqa: S105 - the name of a variable
# The number of a descriptor with what the runner must know and its children must not; see `Inheritance`.
INHERITANCE_VARIABLE = "DRAGOMAN_RUN_INHERITANCE"


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a runner gets through a file without a name: what it may hold, nobody else may read.

    Attributes:
        daemon_env: the whole environment its daemon was started with, to start it again if it is killed.
        config_file: the configuration it reads.
    """

    daemon_env: Mapping[str, str] = field(default_factory=dict[str, str])
    config_file: str | None = None


def take_inheritance(env: Mapping[str, str]) -> Inheritance:
    """What `start_runner` handed on; nothing for a runner that was started by hand. Closes the file."""
    number = env.get(INHERITANCE_VARIABLE, "")
    if not number.isdigit():
        return Inheritance()
    try:
        with os.fdopen(int(number), "rb") as file:
            known = json.loads(file.read())
    except (OSError, ValueError):
        return Inheritance()
    return Inheritance(daemon_env=known["daemon_env"], config_file=known["config_file"])
