"""A class of the user's own, named as package.module.Class: imported, checked, and made from its params."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from biaslab.errors import ConfigError


def check_words(target: str, params: Any) -> str | None:
    """What is wrong with the two words before anything is imported, beginning with the field, or None."""
    if not target.rpartition(".")[0]:
        return f"target={target}: name a class as package.module.Class"
    if params is not None and not isinstance(params, Mapping):
        return f"params={params}: write {{field: value, ...}}"
    return None


def own_class(target: str, base: type, wrong_with: Callable[[type], str | None]) -> type:
    """The class `target`, a dataclass that extends `base`.

    wrong_with : what more is wrong with it, or None.
    Raises ConfigError, one line beginning with "target=", for what cannot be imported or is no such class.
    """
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"target={target}: no module {error.name}; it is looked for in the working folder and PYTHONPATH"
        ) from error
    except Exception as error:  # the user's own code
        raise ConfigError(f"target={target}: importing it failed ({type(error).__name__}: {error})") from error
    found = getattr(module, name, None)
    if found is None:
        there = sorted(n for n, c in vars(module).items() if _extends(c, base) and c.__module__ == module_name)
        raise ConfigError(f"target={target}: {module_name} has no {name}; its {_plural(base)}: {there or 'none'}")
    if (wrong := _no_such_class(found, base) or wrong_with(found)) is not None:
        raise ConfigError(f"target={target}: {wrong}")
    assert isinstance(found, type)
    return found


def made(cls: type, params: Mapping[str, Any] | None) -> Any:
    """An instance with the fields `params`. Raises ConfigError, beginning with "params.", for a wrong key or type."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    given = dict(params or {})
    allowed = [f.name for f in fields(cls)]
    if unknown := sorted(set(given) - set(allowed)):
        has = f"has {', '.join(allowed)}" if allowed else "has no fields"
        raise ConfigError(f"params.{unknown[0]}: no such field; {cls.__name__} {has}")
    try:
        instance = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), given))
    except OmegaConfBaseException as error:
        raise ConfigError(f"params.{error.full_key}: {str(error).splitlines()[0]}") from error
    assert isinstance(instance, cls)
    return instance


def lacks(cls: type, names: tuple[str, ...], kind: type) -> str | None:
    """The words for class attributes that are not there, or not of `kind`; None if all are."""
    absent = [name for name in names if not isinstance(getattr(cls, name, None), kind)]
    return f"it lacks the class attributes {', '.join(absent)} ({kind.__name__})" if absent else None


def code_of(cls: type) -> dict[str, str]:
    """The hash of the source of a class that is not biaslab's, as an entry of a cell's identity; {} for ours."""
    if cls.__module__.startswith("biaslab."):
        return {}
    source = inspect.getsourcefile(cls)
    return {"code": hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""}


def _extends(value: Any, base: type) -> bool:
    return inspect.isclass(value) and issubclass(value, base)


def _plural(base: type) -> str:
    return f"{base.__name__.lower()}s"


def _no_such_class(found: Any, base: type) -> str | None:
    if not _extends(found, base):
        return f"it does not extend {base.__module__}.{base.__name__}"
    if inspect.isabstract(found):
        return f"it lacks {', '.join(sorted(found.__abstractmethods__))}"
    if not is_dataclass(found) or "__dataclass_fields__" not in vars(found):
        return "it is no dataclass; put @dataclass above it, its fields are its config"
    return None
