#!/usr/bin/env bash
# What the cluster tests need: Slurm and munge from Debian (as root), the launchers' libraries into a Python.
#   tests/cluster/install.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${1:-.venv/bin/python}
if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
  apt-get -o DPkg::Lock::Timeout=300 update -q >/dev/null
  apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends slurm-wlm munge >/dev/null
fi
"$PYTHON" -m pip install -q -c constraints.txt hydra-submitit-launcher submitit ray joblib
