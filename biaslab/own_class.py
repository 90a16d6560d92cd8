"""A class of the user's own, named as package.module.Class: imported, checked, and made from its params."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from biaslab.errors import BiaslabError, ConfigError
from biaslab.own_code import raised_in

T = TypeVar("T")


def own_object(
    target: str, params: Any, base: type, wrong_with: Callable[[type], str | None] = lambda cls: None
) -> Any:
    """What the words name: the class `target`, which extends `base`, with the fields `params`, checked by itself.

    wrong_with : what more is wrong with the class, or None.
    Raises ConfigError, one line beginning with "target" or "params", for whatever is wrong with either.
    """
    if not target.rpartition(".")[0]:
        raise ConfigError(f"target={target}: name a class as package.module.Class")
    if params is not None and not isinstance(params, Mapping):
        raise ConfigError(f"params={params}: write {{field: value, ...}}")
    cls = _own_class(target, base, wrong_with)
    with users_code(f"target={target}: making it"):
        found = _made(cls, params)
    with users_code(f"target={target}: check()"):
        problem = found.check()
    if problem is not None:
        raise ConfigError(f"params.{problem}")
    return found


def resolved(
    group: str,
    chosen: Mapping[str, T],
    registry: Mapping[str, type[T]],
    own: Callable[[T], T | None],
    name_of: Callable[[T], str],
) -> dict[str, T]:
    """`chosen` with every stand-in replaced by the user's object; "custom" itself is renamed to that one's own name.

    So a label names what it is, not how it was asked for.

    group : "accel" or "benchmark", for messages. registry : what ships with biaslab, by name.
    own : of a stand-in, the user's object; None of anything else. name_of : an object's own name.
    Raises ConfigError as `own` does, and for a name that is taken or comes twice.
    """
    done: dict[str, T] = {}
    for name, one in chosen.items():
        try:
            mine = own(one)
        except ConfigError as error:
            raise ConfigError(f"{group}.{name}.{error}") from error
        if mine is not None:
            given = name_of(mine)
            if given in registry and registry[given] is not type(mine):
                raise ConfigError(f"{group}.{name}: the name {given!r} is taken by biaslab; choose another")
            name, one = given if name == "custom" else name, mine
        if name in done:
            raise ConfigError(f"{group}={name}: named twice")
        done[name] = one
    return done


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """An exception of the user's own code, in `what`, as a ConfigError of one line."""
    try:
        yield
    except BiaslabError:
        raise
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        place = f" in {where}" if (where := raised_in(error)) else ""
        raise ConfigError(f"{what} failed ({words}){place}") from error


def _own_class(target: str, base: type, wrong_with: Callable[[type], str | None]) -> type:
    """The class `target`, a dataclass that extends `base`; ConfigError for what cannot be imported or is no such."""
    module_name, _, name = target.rpartition(".")
    with users_code(f"target={target}: importing it"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"target={target}: no module {error.name}; it is looked for in the working folder and PYTHONPATH"
            ) from error
    found = getattr(module, name, None)
    if found is None:
        there = sorted(n for n, c in vars(module).items() if _extends(c, base) and c.__module__ == module_name)
        raise ConfigError(f"target={target}: {module_name} has no {name}; its {_plural(base)}: {there or 'none'}")
    if (wrong := _no_such_class(found, base) or wrong_with(found)) is not None:
        raise ConfigError(f"target={target}: {wrong}")
    assert isinstance(found, type)
    return found


def _made(cls: type, params: Mapping[str, Any] | None) -> Any:
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


def is_own(cls: type) -> bool:
    """Whether a class is the user's own, not one that ships with biaslab."""
    return not cls.__module__.startswith("biaslab.")


def code_of(cls: type) -> dict[str, str]:
    """The hash of the source of a class that is not biaslab's, as an entry of a cell's identity; {} for ours."""
    if not is_own(cls):
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
