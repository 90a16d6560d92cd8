"""Pruning by SparseML, which is at its end of life and lives in an environment of its own.

Its last wheel needs numpy<2, transformers<4.41 and Python<3.12, so it cannot be imported here. The model's
folder and token ids go to a subprocess, safetensors come back; never text: the two versions of transformers
tokenize differently. `python -m biaslab sparseml setup` builds the environment, `check` tries it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab.accel.engines import Recipe
from biaslab.errors import CellFailed, ConfigError
from biaslab.models.base import LoadedModel, ModelInfo
from biaslab.models.loading import quiet

if TYPE_CHECKING:
    from torch import Tensor

#: Every pin stands for a failure that was seen; together they install without a conflict on Python 3.11.
PINS = (
    "torch==2.13.0",  # the version biaslab is tested with: one download for both environments
    "sparseml==1.8.0",  # 1.9.0 refuses to install, on purpose
    "sparsezoo==1.8.1",  # so does 1.9; 1.7 wants pydantic<2
    "transformers==4.40.2",
    "datasets==2.18.0",
    "accelerate<1",
    "compressed-tensors==0.5.0",
    "evaluate>=0.4.1",
    "sentencepiece",
    "einops",
    "pyarrow<20",  # later ones want numpy 2
    "numpy<2",
    "setuptools<80",
)
PYTHONS = ("python3.11", "python3.10", "python3.9")
SETUP = "python -m biaslab sparseml setup"
#: What transformers 4.40 knows and a test has compared; everything else is refused by name.
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "GPTNeoXForCausalLM")
WORKER = Path(__file__).with_name("sparseml_worker.py")
READY = "ready.json"


def environment_dir() -> Path:
    """BIASLAB_SPARSEML_DIR, or `sparseml` in biaslab's cache (BIASLAB_CACHE_DIR, or ~/.cache/biaslab)."""
    if given := os.environ.get("BIASLAB_SPARSEML_DIR"):
        return Path(given).expanduser()
    cache = os.environ.get("BIASLAB_CACHE_DIR")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache" / "biaslab") / "sparseml"


def unavailable(model: ModelInfo) -> str | None:
    """Why SparseML cannot prune this model here, with what to run, or None."""
    if not (environment_dir() / READY).is_file():
        return f"engine=sparseml needs its own environment, and {environment_dir()} has none: run {SETUP}"
    if model.architecture not in ARCHITECTURES:
        return f"engine=sparseml knows {', '.join(ARCHITECTURES)}, not {model.architecture}; use engine=native"
    rope = model.config.get("rope_parameters") or model.config.get("rope_scaling") or {}
    if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
        return f"engine=sparseml does not know positions of type {kind}; use engine=native"
    return None


# --- pruning -----------------------------------------------------------------------------------------------


def pruned_state(model: LoadedModel, ids: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """State dict of a pruned copy of the model, on the CPU.

    Raises CellFailed if the environment fails, or if it computes other logits from this model than biaslab
    does: then it would calibrate on another model.
    """
    import torch
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory(prefix="biaslab-sparseml-") as scratch:
        folder = Path(scratch)
        _write_job(folder, model, ids, recipe)
        _run_worker([str(folder)])
        state = _load(model, folder / "out")
        theirs = load_file(folder / "logits.safetensors")["logits"]
    with torch.no_grad():
        ours = model.module(input_ids=ids[:1], use_cache=False).logits[0].float().cpu()
    limit = 1e-3 if model.dtype == torch.float32 else 0.05
    if (theirs - ours).norm() > limit * ours.norm():
        raise CellFailed(
            f"engine=sparseml computes other logits from {model.info.label} than biaslab does (relative difference "
            f"{float((theirs - ours).norm() / ours.norm()):.2g}), so it would prune another model; where attention "
            "slides, rows no longer than its window may agree (calibration.length), else use engine=native"
        )
    return state


def _load(model: LoadedModel, folder: Path) -> dict[str, Tensor]:
    """State dict of the checkpoint in `folder`, under the names of the model's own module."""
    with quiet():
        module = type(model.module).from_pretrained(
            folder, config=model.module.config, dtype=model.dtype, use_safetensors=True
        )
    state: dict[str, Tensor] = module.state_dict()
    return state


def _write_job(folder: Path, model: LoadedModel, ids: Tensor, recipe: Recipe) -> None:
    from biaslab.accel.layers import decoder_layers

    with quiet():
        model.module.save_pretrained(folder / "model")
    config = folder / "model" / "config.json"
    config.write_text(json.dumps(_old_config(json.loads(config.read_text(encoding="utf-8")))), encoding="utf-8")
    prefix, _ = decoder_layers(model.module)
    job = {
        "ids": ids.tolist(),
        "modifier": recipe.modifier,
        "arguments": {
            "sparsity": recipe.sparsity,
            "sequential_update": True,
            "mask_structure": recipe.mask_structure,
            "targets": [rf"re:{prefix}\.\d+$"],
            **recipe.options,
        },
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")


def _old_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json of transformers 5 as 4.40 reads it, which would not find the base of the positions."""
    old = {key: value for key, value in config.items() if key not in ("rope_parameters", "layer_types", "dtype")}
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:
        old["rope_theta"] = rope["rope_theta"]
        old["rotary_emb_base"] = rope["rope_theta"]  # GPT-NeoX
    if "partial_rotary_factor" in rope:
        old["rotary_pct"] = rope["partial_rotary_factor"]
    old["torch_dtype"] = config.get("dtype", config.get("torch_dtype", "float32"))
    return old


def _run_worker(arguments: Sequence[str]) -> str:
    """Run the worker in its environment; what it printed. CellFailed with the last line of its error."""
    command = [str(_python(environment_dir())), "-I", str(WORKER), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=_environment())
    except OSError as error:
        raise CellFailed(f"SparseML's environment {environment_dir()} cannot be used ({error}); run {SETUP}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise CellFailed(f"SparseML failed: {lines[-1].strip() if lines else f'exit code {done.returncode}'}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Our own environment without what would lead its imports here, offline and without its telemetry."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return kept | {"NM_DISABLE_ANALYTICS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


# --- the environment -----------------------------------------------------------------------------------------


def setup() -> Path:
    """Build the environment where it is not ready yet; its folder.

    Raises ConfigError if no Python below 3.12 is found or pip fails; what was half built is removed.
    """
    from filelock import FileLock

    folder = environment_dir()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{folder.name}.lock"):
        if (folder / READY).is_file():
            return folder
        python = _find_python()
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _pip(folder, python)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ConfigError(f"sparseml setup: {error}; what was built of {folder} is removed again") from error
        (folder / READY).write_text(json.dumps({"pins": PINS}), encoding="utf-8")
    return folder


def _pip(folder: Path, python: str) -> None:
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    subprocess.run(
        [str(_python(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS],
        check=True,
        env=_environment(),
    )


def _find_python() -> str:
    if sys.version_info < (3, 12):
        return sys.executable
    found = next((path for name in PYTHONS if (path := shutil.which(name))), None)
    if found is None:
        raise ConfigError(
            f"sparseml setup: SparseML needs a Python below 3.12; put one of {', '.join(PYTHONS)} on PATH"
        )
    return found


def check() -> dict[str, str]:
    """Versions of what the environment imports. ConfigError if there is none or it does not import."""
    folder = environment_dir()
    if not (folder / READY).is_file():
        raise ConfigError(f"sparseml check: {folder} has no finished environment; run {SETUP}")
    try:
        versions: dict[str, str] = json.loads(_run_worker(["check"]).splitlines()[-1])
    except (CellFailed, OSError, ValueError, IndexError) as error:
        raise ConfigError(f"sparseml check: {error}; delete {folder} and run {SETUP}") from error
    return versions
