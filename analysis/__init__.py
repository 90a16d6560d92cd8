"""analysis: does acceleration interact with the model in its effect on bias? Reads results files only.

Examples
--------
In a notebook: `analysis.load("outputs/sweeps/ID").verdicts`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.results import load as load
else:
    from analysis import load  # the module of that name: calling it is calling analysis.results.load

__all__ = ["load"]
