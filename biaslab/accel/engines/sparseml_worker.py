"""Runs inside SparseML's own environment, by path: it imports nothing of biaslab.

`sparseml_worker.py check` prints versions as JSON. `sparseml_worker.py FOLDER` reads FOLDER/job.json and the
model in FOLDER/model, and writes FOLDER/logits.safetensors (of the first row, before pruning) and FOLDER/out.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(argument: str) -> None:
    """Check the imports, or prune."""
    if argument == "check":
        print(json.dumps(versions()))
    else:
        prune(Path(argument))


def versions() -> dict[str, str]:
    """Import everything a run needs."""
    from importlib.metadata import version

    import sparseml.transformers  # noqa: F401

    return {name: version(name) for name in ("sparseml", "transformers", "torch", "numpy")}


def prune(folder: Path) -> None:
    """Do the job in `folder`."""
    import torch
    from datasets import Dataset
    from safetensors.torch import save_file
    from sparseml.transformers import SparseAutoModelForCausalLM, oneshot

    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    os.chdir(folder)  # whatever it logs stays here and goes with the folder
    weights = str(folder / "model")
    model = SparseAutoModelForCausalLM.from_pretrained(weights, torch_dtype="auto", device_map=None)  # nosec B615
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor(job["ids"][:1])).logits[0].float().contiguous()
    save_file({"logits": logits}, str(folder / "logits.safetensors"))
    rows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in job["ids"]]
    oneshot(
        model=model,
        tokenizer=blank_tokenizer(),
        dataset=Dataset.from_list(rows),
        recipe=recipe(job["modifier"], job["arguments"]),
        output_dir=str(folder / "out"),
        num_calibration_samples=len(rows),
        max_seq_length=len(rows[0]["input_ids"]),
        shuffle_calibration_samples=False,
        pad_to_max_length=False,
        oneshot_device="cpu",
        tie_word_embeddings=bool(model.config.tie_word_embeddings),
        overwrite_output_dir=True,
        save_compressed=False,
        clear_sparse_session=True,
    )


def recipe(modifier: str, arguments: dict[str, Any]) -> str:
    """One modifier as the YAML text SparseML takes; JSON is YAML."""
    return json.dumps({"test_stage": {"obcq_modifiers": {modifier: arguments}}})


def blank_tokenizer() -> Any:
    """It is asked for one and never uses it: the rows are token ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>")), pad_token="<pad>"
    )


if __name__ == "__main__":
    main(sys.argv[1])
