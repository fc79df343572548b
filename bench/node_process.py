# SPDX-License-Identifier: Apache-2.0
"""The captioner as a process under observation: memory, processor time, and what its diagnostics say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")


# As docs/troubleshooting.md advises: with the default buffer most images of 6 MB lose a fragment and never arrive.
CYCLONE = "<CycloneDDS><Domain><Internal><SocketReceiveBufferSize max='32MB'/></Internal></Domain></CycloneDDS>"


def environment() -> dict[str, str]:
    """A domain of our own, so that other nodes of this machine do not take part; the tests use those below 100."""
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    own = {"PYTHONPATH": path, "ROS_DOMAIN_ID": str(100 + os.getpid() % 2)}
    return {"CYCLONEDDS_URI": CYCLONE} | os.environ | own


class NodeProcess:
    """Started in the constructor; ``start_s`` is the time from there to the log line that says it is active."""

    def __init__(self, *ros_arguments: str) -> None:
        command = [sys.executable, "-m", "edge_vlm.ros.captioner", "--ros-args", *ros_arguments]
        self.environment = environment()
        begun = time.monotonic()
        self.process = subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "active; listening" in line:
                break
            if "not configured" in line:
                self.stop()
                raise RuntimeError(line.strip())
        self.start_s = time.monotonic() - begun

    def rss_mb(self) -> float:
        """Resident memory, MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024

    def cpu_s(self) -> float:
        """Processor seconds so far, user and system, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def stop(self) -> float:
        """Seconds from SIGINT to its end."""
        begun = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return time.monotonic() - begun
