"""A SLURM cluster of two nodes on one host: munged, slurmctld and two slurmd; without systemd, cgroups or accounting.

By hand, as root: `python tests/workflow/cluster/slurm_cluster.py up FOLDER`, and `down FOLDER` afterwards. The GPUs
of node2 are character devices that stand in for some: they show where jobs are sent, not what they compute.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# Job steps lose SLURM_CONF on their way through the executor, so that the file must lie where SLURM looks.
SLURM_CONF = Path("/etc/slurm/slurm.conf")
GRES_CONF = SLURM_CONF.with_name("gres.conf")
MARK = "# Written by genotok's tests; removed when they end.\n"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
PACKAGES = ("slurm-wlm", "slurmctld", "slurmd", "slurm-client", "munge")
NODES = ("node1", "node2")
GPU_NODE = "node2"


def why_not() -> str:
    """Why no cluster can be started here, or nothing; installs SLURM where this process may."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "SLURM's daemons are started by root on Linux only"
    if SLURM_CONF.exists() and not SLURM_CONF.read_text().startswith(MARK):
        return f"this host has a SLURM of its own: {SLURM_CONF}"
    if all(shutil.which(program) for program in PROGRAMS):
        return ""
    if not shutil.which("apt-get"):
        return "SLURM is not installed, and there is no apt-get to install it"
    return _install()


def _install() -> str:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *PACKAGES]):
        try:
            done = subprocess.run(
                ["apt-get", *words], capture_output=True, text=True, env=environment, timeout=240
            )
        except subprocess.TimeoutExpired:
            return f"SLURM cannot be installed: apt-get {words[0]} does not end"
    return f"SLURM cannot be installed: {done.stderr.strip()[-300:]}" if done.returncode else ""


def slurm(*words: str) -> str:
    """What a command of SLURM says; it must end well within 30 s."""
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class SlurmCluster:
    """Two nodes of four CPUs; node2 has two GPUs, in a partition of their own. All files lie in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def up(self) -> None:
        """Start the daemons and wait until both nodes are idle."""
        for name in ("state", "spool", "log", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._start_munge()
        self._write_configuration()
        subprocess.run(["slurmctld"], check=True, timeout=30, stdin=subprocess.DEVNULL)
        for node in NODES:
            self.start_node(node)
        self.wait_for_states("idle")

    def _start_munge(self) -> None:
        key = self.folder / "run" / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        files = {
            "socket": "run/munge.socket",
            "pid-file": "run/munged.pid",
            "log-file": "log/munged.log",
            "seed-file": "run/munge.seed",
            "key-file": "run/munge.key",
        }
        options = [f"--{option}={self.folder / path}" for option, path in files.items()]
        subprocess.run(["munged", "--force", *options], check=True, timeout=30, capture_output=True)

    def _write_configuration(self) -> None:
        folder, ports = self.folder, [_free_port() for _ in range(3)]
        gpus = [folder / "run" / f"gpu{number}" for number in range(2)]
        for gpu, (major, minor) in zip(gpus, ((1, 3), (1, 5)), strict=True):
            if not gpu.exists():
                os.mknod(gpu, 0o020666, os.makedev(major, minor))
        nodes = [
            f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=8000"
            f"{' Gres=gpu:h200:2' if node == GPU_NODE else ''}"
            for node, port in zip(NODES, ports[1:], strict=True)
        ]
        SLURM_CONF.parent.mkdir(exist_ok=True)
        SLURM_CONF.write_text(
            MARK
            + f"""ClusterName=genotok
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire=10
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory,CR_LLN
MpiDefault=none
ReturnToService=2
MinJobAge=86400
KillWait=10
SlurmdTimeout=10
SlurmdParameters=config_overrides
GresTypes=gpu
PartitionName=main Nodes={",".join(NODES)} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={GPU_NODE} MaxTime=INFINITE State=UP
"""
            + "\n".join(nodes)
            + "\n"
        )
        GRES_CONF.write_text(f"{MARK}NodeName={GPU_NODE} Name=gpu Type=h200 File={folder}/run/gpu[0-1]\n")

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        subprocess.run(["slurmd", "-N", node], check=True, timeout=30, stdin=subprocess.DEVNULL)

    def bring_back(self, node: str) -> None:
        """Start a node that was lost, and wait until it takes jobs."""
        self.start_node(node)
        # The controller refuses this where the node has come back by itself.
        subprocess.run(
            ["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True, timeout=30
        )
        self.wait_for_states("idle", "mixed", "allocated", "completing")

    def lose_node(self, node: str) -> None:
        """Take a node out of service with all that runs on it, as a power failure does."""
        slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        self._kill(self._pid(f"slurmd-{node}"))
        for pid in self.processes_on(node):
            self._kill(pid)

    @staticmethod
    def processes_on(node: str) -> list[int]:
        """The processes of jobs on a node."""
        wanted = f"SLURMD_NODENAME={node}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    @staticmethod
    def jobs(comment: str = "") -> list[dict[str, str]]:
        """The jobs that SLURM remembers, oldest first, as `scontrol` describes them; of a rule where it is named."""
        lines = slurm("scontrol", "--oneliner", "show", "jobs").splitlines()
        found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if "JobId=" in line]
        return sorted(
            (job for job in found if comment in job.get("Comment", "")), key=lambda job: int(job["JobId"])
        )

    def wait_for_job(self, comment: str, number: int = 1, seconds: float = 120) -> dict[str, str]:
        """Wait until this many jobs of a rule were submitted and the last of them runs; returns it."""
        end = time.monotonic() + seconds
        while True:
            found = self.jobs(comment)
            if len(found) >= number and found[-1]["JobState"] == "RUNNING":
                return found[-1]
            if time.monotonic() > end:
                raise TimeoutError(f"no running job of {comment}: {found}\n{self.log()}")
            time.sleep(0.1)

    def wait_for_states(self, *wanted: str, seconds: float = 60) -> None:
        """Wait until every node is in one of these states."""
        end = time.monotonic() + seconds
        while not set(slurm("sinfo", "-h", "-N", "-o", "%T").split()) <= set(wanted):
            if time.monotonic() > end:
                raise TimeoutError(f"nodes are not {wanted}:\n{slurm('sinfo')}{self.log()}")
            time.sleep(0.2)

    def log(self) -> str:
        """The ends of the daemons' logs."""
        logs = sorted((self.folder / "log").glob("*.log"))
        return "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in logs)

    def _pid(self, daemon: str) -> int | None:
        file = self.folder / "run" / f"{daemon}.pid"
        return int(file.read_text()) if file.exists() and file.read_text().strip() else None

    @staticmethod
    def _kill(pid: int | None, number: int = signal.SIGKILL) -> None:
        if pid:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return

    @staticmethod
    def _lives(pid: int | None) -> bool:
        """Whether a daemon still runs; one that nobody waits for stays in the table when it has ended."""
        try:
            return bool(pid) and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def down(self) -> None:
        """End jobs and daemons, and take the configuration away."""
        subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=30)
        daemons = [self._pid(name) for name in ("slurmctld", *(f"slurmd-{node}" for node in NODES), "munged")]
        for pid in daemons:
            self._kill(pid, signal.SIGTERM)
        for node in NODES:
            for pid in self.processes_on(node):
                self._kill(pid)
        end = time.monotonic() + 10
        while any(map(self._lives, daemons)) and time.monotonic() < end:
            time.sleep(0.1)
        for pid in filter(self._lives, daemons):
            self._kill(pid)
        for path in (SLURM_CONF, GRES_CONF):
            if path.exists() and path.read_text().startswith(MARK):
                path.unlink()


if __name__ == "__main__":
    complaint = why_not()
    if complaint:
        sys.exit(complaint)
    cluster = SlurmCluster(Path(sys.argv[2]).resolve())
    getattr(cluster, {"up": "up", "down": "down"}[sys.argv[1]])()
