"""biaslab: does making an LLM faster make it less fair, and can anyone predict how?"""

__version__ = "0.1.0"
