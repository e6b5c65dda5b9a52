"""Where choices that outlive a command are kept: in the folder that LLAVAMED_CONFIG names, else where the system keeps
a person's configuration."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "LLAVAMED_CONFIG"


def config_folder() -> Path:
    """The folder; it need not exist yet."""
    import platformdirs

    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_config_path("llavamed")
