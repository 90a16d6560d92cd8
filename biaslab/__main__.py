"""The entry: a first argument that is a verb goes to verbs.py, everything else is a line for Hydra."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from biaslab.console import fail, outlive_reader


def main() -> NoReturn:
    """Run what was typed and exit: 0 done, 2 wrong request, 3 cells failed or missing, 130 interrupted."""
    from biaslab import verbs

    if len(sys.argv) > 1 and sys.argv[1] in verbs.VERBS:
        sys.exit(verbs.main(sys.argv[1:]))
    if sys.argv[1:] == ["help"]:
        sys.argv[1] = "--help"
    if sys.argv[1:] == ["--version"]:
        from biaslab import __version__

        print(__version__)
        sys.exit(0)
    sys.exit(run_line())


def run_line() -> int:
    """Run the line in sys.argv through Hydra; the exit code."""
    import warnings

    # Hydra prints a callback's exception as a warning; ours leave by SystemExit, so nothing else is muted.
    warnings.filterwarnings("ignore", message=".*provided by.*", module="hydra")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # we turn errors into one line ourselves
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from biaslab import config, sweep
    from biaslab.errors import BiaslabError
    from biaslab.messages import one_line
    from biaslab.sweeper import held_back

    outlive_reader()
    typed = sys.argv
    sweep.remember_line(typed[1:])
    try:
        sys.argv = [typed[0], *held_back(typed[1:])]
        config.register()
        config.register_resolvers()
        task = hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name="config")
        task(sweep.run_job)()
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # composing raises all three
        if sweep.started():
            raise
        fail(one_line(error))
        return 2
    except BiaslabError as error:
        fail(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return sweep.finish(interrupted=True)
    except OSError as error:  # Hydra's own files, on a full disk or in a read-only folder
        fail(f"{error.filename or 'outputs'}: {error.strerror or error}; set outputs=DIR to where there is room")
        return sweep.finish() or 3
    finally:
        sys.argv = typed
    return sweep.finish()


if __name__ == "__main__":
    main()
