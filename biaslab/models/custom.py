"""A model of the user's own, named by its class: its `load` is called once, and what it returns is kept as a folder.

From then on it is as any folder of a model: described without torch, loaded by every job and worker, and named by a
hash of what is in it. So a dear `load` is paid for once, and one that is not deterministic still gives one model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab.errors import CellFailed, ConfigError, DataMismatch
from biaslab.labels import changed
from biaslab.libraries import import_hqq
from biaslab.models.base import Model, ModelInfo
from biaslab.models.folders import describe_local, safe_label
from biaslab.models.kept import keep, user_cache
from biaslab.own_class import code_of, lacks, own_object, users_code
from biaslab.own_code import defined_in

if TYPE_CHECKING:
    import torch

MARKER = "made_of.json"
#: What is asked of the model before it is kept and after it is read back.
TEXT = "The doctor asked the nurse whether she had seen the patient, and the engineer wrote his report."
#: Largest change of a logit that another attention kernel may make, as a share of the largest logit, by dtype.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}


def own_model(target: str, params: Any) -> Model:
    """The class `target` with its params. Raises ConfigError, one line, for what is wrong with either."""
    try:
        model: Model = own_object(target, params, Model, lambda cls: lacks(cls, ("name",), str))
    except ConfigError as error:
        raise ConfigError(f"model.{error}") from error
    return model


def own_label(model: Model, name: str = "") -> str:
    """Its word in results: `name` if one is given, else the class's own with the fields that are not its defaults."""
    before = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(model)}
    return name or safe_label(model.name + changed(asdict(model), before))


def describe_custom(target: str, params: Any, name: str = "", *, trust_remote_code: bool = False) -> ModelInfo:
    """What is known of a user's model; its class loads it here and now if it is not in the cache.

    Its identity hashes the weights, config and tokenizer that are kept, and the source of the class.
    Raises ConfigError for what is wrong with the class or what it returns, DataMismatch for a folder that is not as
    it was written, CellFailed if the cache cannot be written.
    """
    model = own_model(target, params)
    with users_code(f"model.target={target}: fingerprint()"):
        made_of = {"target": target, "params": asdict(model), "fingerprint": model.fingerprint()}
    made_of |= code_of(type(model))
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()
    folder = user_cache() / "models" / f"{safe_label(model.name)}-{key[:16]}"
    keep(folder, MARKER, lambda made: _write(model, f"model.target={target}", made, trust_remote_code))
    info = describe_local(str(folder), own_label(model, name), trust_remote_code=trust_remote_code)
    if json.loads((folder / MARKER).read_text(encoding="utf-8"))["identity"] != info.identity:
        raise DataMismatch(f"{folder}: it is not as it was written; delete the folder to load the model again")
    identity = f"{info.identity}+code:{made_of['code']}" if "code" in made_of else info.identity
    return replace(info, source="custom", identity=identity, note=model.note, made_of=made_of)


def _write(model: Model, asked: str, folder: Path, trust_remote_code: bool) -> None:
    """Load the model and save it to `folder`; ConfigError if what is read back is not what was given."""
    before, dtype = _saved(model, asked, folder)
    info = describe_local(str(folder), trust_remote_code=trust_remote_code)
    try:
        after = _read_back(info, dtype, trust_remote_code)
    except CellFailed as error:
        raise ConfigError(f"{asked}: what load() returned cannot be read back ({error})") from error
    change, limit = float((after - before).abs().max()), TOLERANCE[dtype] * float(before.abs().max())
    if not change <= limit:
        raise ConfigError(
            f"{asked}: read back from its folder it answers otherwise than what load() returned (a logit changes by "
            f"{change:.3g}); only weights and config are kept, so change these, or register an architecture"
        )
    (folder / MARKER).write_text(json.dumps({"identity": info.identity}), encoding="utf-8")


def _saved(model: Model, asked: str, folder: Path) -> tuple[torch.Tensor, str]:
    """Call `load` and save what it returns; its logits and its dtype. Nothing of it stays in memory."""
    import torch

    import_hqq()  # before transformers does it, slowly
    from biaslab.models.loading import quiet

    with users_code(f"{asked}: load()"), torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)  # one that sets no seed gives the same weights again
        loaded = model.load()
    if (wrong := _wrong_return(loaded)) is not None:
        where = defined_in(type(model), "load")
        raise ConfigError(f"{asked}: load() must return (model, tokenizer); {wrong} ({where})")
    module, tokenizer = loaded
    with users_code(f"{asked}: asking what load() returned"):
        logits = _logits(module.cpu().eval(), tokenizer)
    if not bool(logits.isfinite().all()):
        raise ConfigError(f"{asked}: load() returned a model with NaN or infinite logits")
    with _save_errors(asked), quiet():
        module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return logits, str(module.dtype).removeprefix("torch.")


@contextmanager
def _save_errors(asked: str) -> Iterator[None]:
    """What transformers cannot save, as a ConfigError of one line; a disk that is full, as an OSError."""
    from safetensors import SafetensorError

    try:
        yield
    except OSError:
        raise
    except SafetensorError as error:  # how it says that a disk is full
        raise OSError(str(error)) from error
    except Exception as error:  # whatever the user's modules raise
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{asked}: what load() returned cannot be saved ({words})") from error


def _wrong_return(loaded: Any) -> str | None:
    """What is wrong with what `load` returned, or None."""
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    if not isinstance(loaded, tuple) or len(loaded) != 2:
        return f"it returned {type(loaded).__name__}"
    module, tokenizer = loaded
    if not isinstance(module, PreTrainedModel):
        hint = "; merge its adapters first" if "peft" in type(module).__module__ else ""
        return f"{type(module).__name__} is no transformers PreTrainedModel{hint}"
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return f"{type(tokenizer).__name__} is no transformers tokenizer"
    if not type(module).__name__.endswith(("ForCausalLM", "LMHeadModel")):
        return f"{type(module).__name__} is no causal language model (its name must end with ForCausalLM)"
    if getattr(module.config, "quantization_config", None) is not None:
        return "it is quantized already; name its original here, and this one by accel=prequantized"
    if (dtype := str(module.dtype).removeprefix("torch.")) not in TOLERANCE:
        return f"its weights are {dtype}; make them one of {', '.join(TOLERANCE)}"
    rows = module.get_input_embeddings().weight.shape[0]
    return None if len(tokenizer) <= rows else f"the tokenizer has {len(tokenizer)} tokens, the embedding {rows} rows"


def _logits(module: Any, tokenizer: Any) -> torch.Tensor:
    """Logits after each token of TEXT, float32."""
    import torch

    with torch.inference_mode():
        found: torch.Tensor = module(input_ids=torch.tensor([tokenizer(TEXT)["input_ids"]]), use_cache=False).logits
    return found.float()


def _read_back(info: ModelInfo, dtype: str, trust_remote_code: bool) -> torch.Tensor:
    from biaslab.models.loading import load

    model = load(info, device="cpu", dtype=dtype, trust_remote_code=trust_remote_code)
    return _logits(model.module, model.tokenizer)
