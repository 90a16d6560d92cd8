"""The config of every job of a multirun, expanded as Hydra's basic sweeper will, at a price that thousands bear.

Composing one job takes Hydra about a tenth of a second, so a sweep of 100 models x 20 accelerators would be
planned for minutes. Most swept words touch different parts of the config: their values are composed one at a
time, and the jobs are put together from the parts. Words that touch a common part are composed together. A word
that sets one plain value (a seed) is set in a composition that is there already. A sample of the jobs is composed
whole and must be equal; if it is not, or if little would be saved, all are. Each job is composed whole by Hydra
once more when it runs.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from biaslab.config import Config, to_config
from biaslab.sweeper import by_keys

#: Fewer jobs than this are all composed whole.
FEW = 24
SAMPLE = 6

Words = tuple[str, ...]
Compose = Callable[[Words], Config]
Vary = Callable[[Words, Words], Config]


def job_configs(config: DictConfig, choose: Callable[[Sequence[Words]], Sequence[Words]] | None = None) -> list[Config]:
    """The config of each job of a multirun, in the order in which Hydra numbers them.

    choose : of the product of all words the jobs that the sweeper makes (biaslab.sweeper); None for all.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    loader = GlobalHydra.instance().config_loader()
    typed = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    assert isinstance(typed, list)
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides([*params, *typed])
    jobs = [tuple(words) for batch in BasicSweeper.split_arguments(parsed, None) for words in batch]
    jobs = list(choose(jobs) if choose is not None else jobs)
    composer = _Composer(loader, config)
    found: dict[int, Config] = {}
    for places in by_keys(jobs):
        found |= zip(places, expand([jobs[i] for i in places], composer.whole, composer.vary), strict=True)
    return [found[i] for i in range(len(jobs))]


class _Composer:
    """Hydra's composition of one job's words, and a cheaper one of words that differ in plain values."""

    def __init__(self, loader: Any, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self._base: tuple[Words, DictConfig] | None = None

    def whole(self, words: Words) -> Config:
        """The config that Hydra composes."""
        return own_part(self._composed(words))

    def vary(self, base: Words, words: Words) -> Config:
        """The config of `words`, from the composition of `base` where they differ in plain values alone."""
        from hydra._internal.config_loader_impl import ConfigLoaderImpl
        from hydra.errors import ConfigCompositionException
        from omegaconf.errors import OmegaConfBaseException

        changed = [word for old, word in zip(base, words, strict=True) if old != word]
        overrides = self._plain_values(words, changed)
        if overrides is None:
            return self.whole(words)
        if self._base is None or self._base[0] != base:
            self._base = (base, _without_hydra(self._composed(base)))
        varied = copy.deepcopy(self._base[1])
        try:
            ConfigLoaderImpl._apply_overrides_to_config(overrides, varied)
        except (ConfigCompositionException, OmegaConfBaseException):
            return self.whole(words)  # which says what is wrong with the word
        return to_config(varied)

    def _composed(self, words: Words) -> DictConfig:
        composed: DictConfig = self.loader.load_sweep_config(self.master, list(words))
        return composed

    def _plain_values(self, words: Words, changed: Sequence[str]) -> list[Any] | None:
        """`changed` parsed, or None if one is no plain value or another word sets its key or a part of it too."""
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from hydra.core.override_parser.types import OverrideType

        parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(list(words))
        values = [override for override in parsed if not self.loader.repository.group_exists(override.key_or_group)]
        found = [override for override in values if override.input_line in changed]
        plain = all(
            override.type is OverrideType.CHANGE
            and override.package is None
            and not isinstance(override.value(), dict | list)
            for override in found
        )
        others = [override.key_or_group for override in values if override not in found]
        clash = any(_within(o.key_or_group, other) or _within(other, o.key_or_group) for o in found for other in others)
        return found if plain and len(found) == len(changed) and not clash else None


def _within(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.")


def own_part(composed: DictConfig) -> Config:
    """A composed config without Hydra's own node, as dataclasses; ConfigError for a missing value."""
    return to_config(_without_hydra(composed))


def _without_hydra(composed: DictConfig) -> DictConfig:
    config = OmegaConf.create(composed)
    with open_dict(config):
        config.pop("hydra", None)
    return config


def expand(jobs: Sequence[Words], compose: Compose, vary: Vary | None = None) -> list[Config]:
    """The config of each job. jobs : the words of each, the same keys in the same places.

    compose : the whole config of one job's words.
    vary : of one job's words and others near them, the config of the others, at a lower price.
    """
    composed: dict[Words, Config] = {}
    varied: dict[Words, Config] = {}

    def whole(words: Words) -> Config:
        if words not in composed:
            composed[words] = compose(words)
        return composed[words]

    def near(words: Words) -> Config:
        if vary is None or words == jobs[0]:
            return whole(words)
        if words not in varied:
            varied[words] = vary(jobs[0], words)
        return varied[words]

    if len(jobs) >= FEW:
        parts = _assemble(jobs, near)
        sample = random.Random(0).sample(range(len(jobs)), SAMPLE)
        if parts is not None and all(parts[i] == whole(jobs[i]) for i in {*sample, len(jobs) - 1}):
            return parts
    return [whole(words) for words in jobs]


def _assemble(jobs: Sequence[Words], near: Compose) -> list[Config] | None:
    """Each job's config from the parts its words touch; None where composing them all costs no more."""
    first = jobs[0]
    values = [dict.fromkeys(words[place] for words in jobs) for place in range(len(first))]
    swept = [place for place, found in enumerate(values) if len(found) > 1]
    if sum(len(values[place]) for place in swept) > len(jobs) // 2:
        return None
    base = near(first)
    touched = {
        place: set().union(*(_changed(base, near(_with(first, {place: word}))) for word in values[place]))
        for place in swept
    }
    groups = _joined(touched)
    combinations = [{tuple(words[place] for place in group) for words in jobs} for group in groups]
    if sum(map(len, combinations)) > len(jobs) // 2:
        return None
    configs = []
    for words in jobs:
        changes: dict[str, Any] = {}
        for group in groups:
            source = near(_with(first, {place: words[place] for place in group}))
            changes |= {name: getattr(source, name) for place in group for name in touched[place]}
        configs.append(dataclasses.replace(base, **changes))
    return configs


def _joined(touched: dict[int, set[str]]) -> list[list[int]]:
    """Places in groups that touch no common part."""
    groups: list[list[int]] = []
    for place, names in touched.items():
        near = [group for group in groups if any(touched[other] & names for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append(sorted([place, *(other for group in near for other in group)]))
    return groups


def _with(words: Words, changes: dict[int, str]) -> Words:
    return tuple(changes.get(place, word) for place, word in enumerate(words))


def _changed(a: Config, b: Config) -> set[str]:
    """Names of the top-level parts in which two configs differ."""
    return {f.name for f in dataclasses.fields(Config) if getattr(a, f.name) != getattr(b, f.name)}
