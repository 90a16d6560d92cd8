"""The format of a results folder. `analysis` reads these files and nothing else of biaslab.

outputs/results/<benchmark>/<model>/<accel>/<cell key>/
    records.parquet   one row per item and repeat, columns RECORD_COLUMNS
    cell.json         identity, what was done, metrics, coverage, environment, timings
    failure.json      instead of both, when the cell failed
outputs/sweeps/<id>/sweep.json   the typed line, the folder of results, each cell's path and state
"""

from __future__ import annotations

SCHEMA_VERSION = 1

#: name -> (type, meaning). Order is the file's order.
RECORD_COLUMNS: dict[str, tuple[str, str]] = {
    "item": ("string", "id of the item, the same in every cell of a benchmark"),
    "cluster": ("string", "the template or question the item was made from"),
    "category": ("string", "kind of bias"),
    "group": ("string", "demographic group or groups the item names"),
    "repeat": ("int32", "0-based sampled repeat; 0 when greedy"),
    "score": ("float64", "signed item score, 0 unbiased, + disadvantaging; NaN when there is no answer"),
    "outcome": ("string", "categorical answer, or refused / unparsed / too_long"),
    "refused": ("bool", "the model declined to answer"),
    "truth": ("float64", "planted score of the item, NaN where nothing was planted"),
    "prompt_tokens": ("int32", "tokens of the longest prompt sent for the item"),
    "sent": ("string", "sha256 of the token ids sent for the item's requests, in order"),
    "prompt": (
        "string",
        "JSON: the texts sent, a list per request, special tokens written out; empty unless asked",
    ),
    "response": ("string", "generated text, untrusted; empty for scored requests"),
    "detail": ("string", "JSON: per-option or per-token log p, other estimators of the score"),
}
