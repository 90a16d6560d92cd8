"""biaslab: does making an LLM faster make it less fair, and can anyone predict how?

Examples
--------
In a notebook: `biaslab.run(model=["tiny_llama", "tiny_mistral"], accel=["hqq4", "wanda50"])`.
"""

from biaslab.api import SweepResult, run

__all__ = ["SweepResult", "__version__", "run"]
__version__ = "0.1.0"
