"""A real Slurm on loopback, without systemd or root-owned files outside a folder: controller, nodes, munge.

Needs slurmctld, slurmd and munged (tests/cluster/install.sh) and root. All nodes are daemons of this host.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")

CONF = """
ClusterName=loop
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,bf_interval=2,batch_sched_delay=0
ReturnToService=2
JobRequeue=1
KillWait=2
MinJobAge=3600
SlurmdTimeout=6
SlurmctldTimeout=30
InactiveLimit=0
MailProg=/bin/true
GresTypes=gpu
NodeName=loop[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=2 RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=loop Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=ALL MaxTime=INFINITE State=UP
"""  # noqa: E501


class Slurm:
    """Starts a cluster in `folder` and ends it, each process by its own number."""

    def __init__(self, folder: Path, nodes: int = 2, port: int = 27817) -> None:
        self.folder, self.nodes, self.port = folder, nodes, port
        self.env = {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        """Bring everything up; RuntimeError with the logs' ends if it does not come."""
        (self.folder / "munge").mkdir(parents=True)
        for folder in (self.folder, self.folder / "munge"):
            folder.chmod(0o755)
        (self.folder / "state").mkdir()
        memory = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20 / (self.nodes + 1))
        first = self.port + 1001
        (self.folder / "slurm.conf").write_text(
            CONF.format(
                folder=self.folder, host=socket.gethostname().split(".")[0], port=self.port, nodes=self.nodes,
                first=first, last=first + self.nodes - 1, memory=memory,
            )
        )  # fmt: skip
        # a GPU to count on each node, without a device behind it
        (self.folder / "gres.conf").write_text(f"NodeName=loop[1-{self.nodes}] Name=gpu File=/dev/null\n")
        self._munge()
        self._run("slurmctld", "-c")
        self._wait(lambda: (self.folder / "slurmctld.pid").is_file())
        for node in range(1, self.nodes + 1):
            self.start_node(node)

    def start_node(self, node: int) -> None:
        """Start a node's daemon and wait until the controller has it."""
        (self.folder / f"spool.loop{node}").mkdir(exist_ok=True)
        self._run("slurmd", "-c", "-N", f"loop{node}")
        self._wait(lambda: self._state(node) in ("idle", "mixed", "allocated"))

    def kill_node(self, node: int) -> None:
        """Kill a node as a power cut does: its daemon and every process of its jobs, without a word."""
        for step in self._processes(f"loop{node}"):
            with suppress(ProcessLookupError):
                os.kill(step, signal.SIGKILL)
        with suppress(OSError, ValueError):
            os.kill(int((self.folder / f"slurmd.loop{node}.pid").read_text()), signal.SIGKILL)

    def ask(self, *command: str) -> str:
        """Output of a Slurm command."""
        done = subprocess.run(command, env=os.environ | self.env, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def stop(self) -> None:
        """End the jobs, then every daemon by its number."""
        self.ask("scancel", "-u", "root")
        time.sleep(0.5)
        files = [*self.folder.glob("slurmd.*.pid"), self.folder / "slurmctld.pid", self.folder / "munge" / "pid"]
        numbers = []
        for file in files:
            with suppress(OSError, ValueError):
                numbers.append(int(file.read_text()))
        for sent in (signal.SIGTERM, signal.SIGKILL):
            for number in numbers:
                with suppress(ProcessLookupError):
                    os.kill(number, sent)
            end = time.monotonic() + 5
            while time.monotonic() < end and any(Path(f"/proc/{number}").exists() for number in numbers):
                time.sleep(0.1)
        for left in self._processes():  # what waits for a job on a node that was killed
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)

    def _munge(self) -> None:
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        names = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge/{name}" for option, name in names.items()]
        self._run("munged", "--force", *options, "--num-threads=2")

    def _processes(self, node: str = "") -> list[int]:
        """Processes of jobs on a node, by the variable that Slurm sets in them, and its step daemons; "": all."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                environ = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes()
                mine = f"SLURM_CONF={self.folder}/slurm.conf".encode() in environ
                there = not node or f"SLURMD_NODENAME={node}".encode() in environ or b"slurmstepd" in command
                if mine and there:
                    found.append(int(folder.name))
        return found

    def _state(self, node: int) -> str:
        return self.ask("sinfo", "-h", "-N", "-p", "loop", "-n", f"loop{node}", "-o", "%T").rstrip("*~#")

    def _run(self, *command: str) -> None:
        subprocess.run(command, env=os.environ | self.env, check=True, capture_output=True, text=True, timeout=60)

    def _wait(self, ready: object, seconds: float = 40.0) -> None:
        assert callable(ready)
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                ends = "\n".join(f"{p.name}: {p.read_text()[-1500:]}" for p in self.folder.glob("*.log"))
                raise RuntimeError(f"Slurm does not come up\n{ends}")
            time.sleep(0.1)


def lacking() -> list[str]:
    """Programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]
