"""Hold the tested versions against the advisory database: `python .ci/audit.py PIP_AUDIT`. Standard library only.

pip-audit skips what its service does not answer for and then reports no finding. Here that is told apart: findings
fail; no answer for any package (no network, a mirror without PyPI's JSON pages) is said and does not fail.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: Advisories that do not concern biaslab: id -> why not. One that is found no more must be taken out.
IGNORED: dict[str, str] = {}


@dataclass
class Verdict:
    """What an audit told. findings, stale : fail it; unanswered : packages that were not looked at."""

    findings: list[str]
    stale: list[str]
    unanswered: list[str]
    n_audited: int

    @property
    def lines(self) -> list[str]:
        """The verdict in words."""
        if not self.n_audited:
            return ["audit: NOT DONE: the advisory database did not answer for any package; run it where it can"]
        lines = [f"audit: {self.n_audited} packages looked up, {len(self.findings)} findings"]
        lines += [f"  {finding}" for finding in self.findings]
        lines += [f"  {name}: ignored in .ci/audit.py, but found no more: take it out" for name in self.stale]
        if self.unanswered:
            lines.append(f"  not looked up, no answer for them: {', '.join(self.unanswered)}")
        return lines

    @property
    def failed(self) -> bool:
        """Whether a submission must not pass."""
        return bool(self.findings or self.stale)


def verdict(report: dict[str, Any], ignored: dict[str, str]) -> Verdict:
    """What pip-audit's JSON report comes to, less the advisories that are `ignored`, by id or alias."""
    findings, met, unanswered, n_audited = [], set(), [], 0
    for package in report["dependencies"]:
        if "skip_reason" in package:
            unanswered.append(package["name"])
            continue
        n_audited += 1
        for advisory in package["vulns"]:
            names = {advisory["id"], *advisory.get("aliases", ())}
            if known := names & ignored.keys():
                met |= known
                continue
            mended = ", ".join(advisory.get("fix_versions", ())) or "no version yet"
            findings.append(f"{package['name']} {package['version']}: {advisory['id']}, mended in {mended}")
    # An advisory can only be called gone where everything was looked up.
    stale = [] if unanswered else sorted(ignored.keys() - met)
    return Verdict(findings, stale, unanswered, n_audited)


def main(argv: list[str]) -> int:
    """Audit constraints.txt with the pip-audit program named; 1 for findings."""
    command = [argv[0], "-r", str(ROOT / "constraints.txt"), "--no-deps", "--disable-pip", "-f", "json"]
    done = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True, check=False)
    try:
        found = verdict(json.loads(done.stdout), IGNORED)
    except ValueError:
        if "ConnectionError" in done.stderr or "Timeout" in done.stderr:
            found = Verdict([], [], [], 0)
        else:
            print(f"audit: pip-audit failed\n{done.stderr[-2000:]}")
            return 1
    print("\n".join(found.lines))
    return int(found.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
