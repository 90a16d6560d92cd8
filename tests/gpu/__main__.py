"""`python -m tests.gpu`: every check that needs a GPU, as a table; one line where there is none."""

from __future__ import annotations

import sys
from typing import Any

import pytest


class Table:
    """Collects each test's outcome and figures, and prints them when all is done."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome == "skipped" or (report.when == "setup" and report.failed):
            figures = "; ".join(f"{name} {_short(value)}" for name, value in report.user_properties)
            reason = str(report.longrepr[2]).removeprefix("Skipped: ") if report.skipped else figures
            self.rows.append((report.outcome, report.nodeid.rsplit("::", 1)[-1].removeprefix("test_"), reason))

    def text(self) -> str:
        width = max((len(name) for _, name, _ in self.rows), default=0)
        return "\n".join(f"{outcome:8} {name:{width}}  {figures}".rstrip() for outcome, name, figures in self.rows)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Run them: 0 all passed, 1 some failed, 2 no GPU here."""
    import torch

    if not torch.cuda.is_available():
        print("no GPU here that torch can use: nothing was checked")
        return 2
    table = Table()
    code = pytest.main(["-q", "-m", "gpu", "-p", "no:terminal", "tests/gpu", "tests/engine/test_devices.py"], [table])
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(table.text())
    return int(code != 0)


if __name__ == "__main__":
    sys.exit(main())
