"""The audit of the tested versions: findings fail, silence is no all-clear."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("biaslab_audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def report(*packages: dict[str, Any]) -> dict[str, Any]:
    return {"dependencies": list(packages), "fixes": []}


CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}
BAD = {
    "name": "jinja2", "version": "2.10",
    "vulns": [{"id": "PYSEC-2019-217", "aliases": ["CVE-2019-10906"], "fix_versions": ["2.10.1"], "description": ""}],
}  # fmt: skip


def test_a_finding_fails_and_names_package_advisory_and_mended_version(audit: ModuleType) -> None:
    found = audit.verdict(report(CLEAN, BAD, SKIPPED), {})
    assert found.failed
    text = "\n".join(found.lines)
    assert "2 packages looked up, 1 findings" in text
    assert "jinja2 2.10: PYSEC-2019-217, mended in 2.10.1" in text
    assert "no answer for them: torch" in text


def test_no_answer_at_all_is_said_and_is_no_finding(audit: ModuleType) -> None:
    found = audit.verdict(report(SKIPPED), {"PYSEC-1": "unused here"})
    assert not found.failed
    assert found.lines == ["audit: NOT DONE: the advisory database did not answer for any package; run it where it can"]


@pytest.mark.parametrize("name", ["PYSEC-2019-217", "CVE-2019-10906"])
def test_an_ignored_advisory_passes_and_one_that_is_gone_must_be_taken_out(audit: ModuleType, name: str) -> None:
    assert not audit.verdict(report(BAD), {name: "no templates from outside"}).failed
    found = audit.verdict(report(CLEAN), {name: "no templates from outside"})
    assert found.failed
    assert f"{name}: ignored" in "\n".join(found.lines)
    assert not audit.verdict(report(CLEAN, SKIPPED), {name: "perhaps of the one that was not looked up"}).failed


@pytest.mark.parametrize(
    ("out", "err", "code", "said"),
    [
        (json.dumps(report(BAD)), "", 1, "1 findings"),
        (json.dumps(report(CLEAN)), "", 0, "1 packages looked up, 0 findings"),
        ("", "requests.exceptions.ConnectionError: no route", 0, "NOT DONE"),
        ("", "Traceback: it broke", 1, "it broke"),
    ],
)
def test_the_step_ends_as_it_should(
    audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, err: str, code: int, said: str
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.stdout.write({out!r})\nsys.stderr.write({err!r})\n")
    program.chmod(0o755)
    assert audit.main([str(program)]) == code
    assert said in capsys.readouterr().out


def test_what_is_ignored_has_a_reason(audit: ModuleType) -> None:
    assert all(len(reason) > 20 for reason in audit.IGNORED.values())
