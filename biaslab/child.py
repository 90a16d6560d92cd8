"""The process behind `biaslab.run`: the line itself, and a word to the parent about where its sweep is.

`python -m biaslab.child FILE WORD...` is `python -m biaslab WORD...`. It ends as an interrupted line does when its
standard input is closed, so that a sweep does not outlive the notebook that asked for it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn


def main() -> NoReturn:
    """Run the line, write to FILE where its sweep, its outputs and its settings are, and exit as it does."""
    file, words = Path(sys.argv[1]), sys.argv[2:]
    sys.argv = ["biaslab", *words]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a parent in a script's background has ignored
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    from biaslab.__main__ import run_line

    code: Any = 3
    try:
        code = run_line()
    except SystemExit as end:
        code = end.code
    finally:
        file.write_text(json.dumps(_whereabouts()), encoding="utf-8")
    sys.exit(code)


def _end_with_the_parent() -> None:
    while os.read(0, 4096):  # not sys.stdin: a daemon thread in it breaks the interpreter's end
        pass
    os.kill(os.getpid(), signal.SIGINT)


def _whereabouts() -> dict[str, Any]:
    """Of the sweep of this process; empty where none was started."""
    from biaslab.sweep import current_sweep

    sweep = current_sweep()
    if sweep is None:
        return {}
    outputs = sweep.outputs.resolve()
    return {
        "sweep": str(sweep.folder.resolve()),
        "report": str(outputs / "reports" / sweep.folder.name / "report.html"),
        "analysis": dataclasses.asdict(sweep.config.analysis),
    }


if __name__ == "__main__":
    main()
