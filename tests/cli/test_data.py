"""`python -m biaslab data`, by subprocess."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.run import biaslab


def test_where_names_file_source_and_licence(tmp_path: Path) -> None:
    done = biaslab(tmp_path, "data", "where", "crows_pairs", env={"BIASLAB_CACHE_DIR": str(tmp_path / "cache")})
    assert done.code == 0, done.err
    assert "absent" in done.out
    assert "https://raw.githubusercontent.com/nyu-mll/crows-pairs/8aaac11c" in done.out
    assert "CC BY-SA 4.0" in done.out


def test_verify_says_what_is_absent_and_what_is_wrong(tmp_path: Path) -> None:
    env = {"BIASLAB_DATA_DIR": str(tmp_path), "BIASLAB_CACHE_DIR": str(tmp_path / "cache")}
    assert biaslab(tmp_path, "data", "verify", "crows_pairs", env=env).code == 3
    path = tmp_path / "benchmarks/crows_pairs/crows_pairs_anonymized.csv"
    path.parent.mkdir(parents=True)
    path.write_text("not it")
    done = biaslab(tmp_path, "data", "verify", "crows_pairs", env=env)
    assert done.code == 3
    assert "WRONG" in done.out
    assert "is not the pinned" in done.out


@pytest.mark.parametrize(("args", "words"), [((), "data fetch|verify|where"), (("fetch", "x"), "no benchmark 'x'")])
def test_a_wrong_line_is_one_line(tmp_path: Path, args: tuple[str, ...], words: str) -> None:
    done = biaslab(tmp_path, "data", *args)
    assert done.code == 2
    assert words in done.err
