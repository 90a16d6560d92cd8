"""`python -m biaslab cache list|prune`: what the cache of accelerated weights holds, and making it smaller."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from biaslab.errors import ConfigError

DEFAULT = "outputs/accel_cache"
USAGE = "cache list [DIR], or cache prune [DIR] [gib=N] (without gib everything goes); DIR is outputs/accel_cache"
LINE = "  {key:12} {size:>10}  {used:16}  {label}"


def main(argv: Sequence[str]) -> int:
    """Run `list` or `prune`; the exit code. ConfigError for anything else."""
    from biaslab.accel.cache import GIB, Entry, WeightCache

    if not argv or argv[0] not in ("list", "prune"):
        raise ConfigError(f"{' '.join(['cache', *argv])}: {USAGE}")
    folder, gib = _arguments(argv)
    if not folder.is_dir():
        raise ConfigError(f"cache {argv[0]} {folder}: no such folder; {USAGE}")
    cache = WeightCache(folder, gib * GIB)
    entries: list[Entry] = cache.entries() if argv[0] == "list" else cache.prune()
    for entry in entries:
        used = datetime.fromtimestamp(entry.used)
        print(
            LINE.format(
                key=entry.key[:12], size=_size(entry.size_bytes), used=f"{used:%Y-%m-%d %H:%M}", label=entry.label
            )
        )
    total = _size(sum(entry.size_bytes for entry in entries))
    left = f", {_size(sum(e.size_bytes for e in cache.entries()))} left" if argv[0] == "prune" else ""
    print(f"{len(entries)} entries, {total} {'dropped' if argv[0] == 'prune' else 'in ' + str(folder)}{left}")
    return 0


def _arguments(argv: Sequence[str]) -> tuple[Path, float]:
    folder, gib = DEFAULT, 0.0
    for word in argv[1:]:
        if word.startswith("gib=") and argv[0] == "prune":
            try:
                gib = float(word.removeprefix("gib="))
            except ValueError:
                gib = -1.0
            if not 0 <= gib < float("inf"):
                raise ConfigError(f"cache prune {word}: a number of GiB, 0 or more")
        elif "=" in word or folder != DEFAULT:
            raise ConfigError(f"{' '.join(['cache', *argv])}: {USAGE}")
        else:
            folder = word
    return Path(folder).expanduser(), gib


def _size(n_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"
