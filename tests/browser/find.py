"""Where a browser is, and why its tests cannot run where none is."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

NAMES = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("playwright", "axe_playwright_python", "pypdf")
#: Nothing of the browser's own talks to the network, so every request that is seen is the page's.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


def executable() -> str | None:
    """Path of the first browser that is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def lacking() -> str:
    """What browser tests need and do not have, with what to do; "" where they can run."""
    if executable() is None:
        return "no chromium (on Debian: apt-get install chromium)"
    packages = [name for name in PACKAGES if find_spec(name) is None]
    return f"without the packages {', '.join(packages)} (make test-browser installs them)" if packages else ""
