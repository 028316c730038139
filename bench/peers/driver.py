"""An adapter's process: started on one core, told what to do line by line, watched for time and memory."""

import json
import os
import selectors
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from peers import BUILD, Peer
from sets import K, Set


class Broken(Exception):
    """The peer said no, died or took too long."""


class Unsupported(Broken):
    """The peer has no such thing."""


class Adapter:
    def __init__(self, peer: Peer, s: Set, core: int):
        self.peer, self.set = peer, s
        (BUILD / "work").mkdir(parents=True, exist_ok=True)
        self.work = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=BUILD / "work"))
        self.answers = self.work / "answers"
        folder = self.work / "index"
        folder.mkdir()
        self.log = open(self.work / "log", "wb")
        words = ["taskset", "-c", str(core), *peer.line(), *s.arguments(folder), *peer.options]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=peer.variables())
        self.waiting = selectors.DefaultSelector()
        self.waiting.register(self.process.stdout, selectors.EVENT_READ)

    def ask(self, command: str, limit: float = 600) -> dict:
        """The answer to one command; a peer that is slower than limit seconds is ended."""
        try:
            self.process.stdin.write(f"{command}\n".encode())
            self.process.stdin.flush()
        except OSError:
            raise Broken(self.end()) from None
        if not self.waiting.select(limit):
            self.process.kill()
            raise Broken(f"no answer to {command.split()[0]} within {limit:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise Broken(self.end())
        answer = json.loads(line)
        if "error" in answer:
            raise (Unsupported if answer.get("skip") else Broken)(answer["error"])
        return answer

    def end(self) -> str:
        self.process.wait()
        self.log.flush()
        said = (self.work / "log").read_text(errors="replace").strip().splitlines()
        return f"ended with status {self.process.returncode}" + (f": {said[-1][:300]}" if said else "")

    def search(self, ef: int, count: int, passes: int = 1, limit: float = 600) -> tuple[dict, np.ndarray]:
        """Seconds of passes over the first queries, and the answers."""
        took = self.ask(f"search {ef} {count} {passes} {self.answers}", limit)
        return took, np.fromfile(self.answers, "<u4").reshape(-1, K)

    def status(self) -> dict[str, int]:
        """Bytes resident in memory: anonymous, all, and the most there were."""
        names = {"RssAnon": "anonymous", "VmRSS": "resident", "VmHWM": "peak"}
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        pairs = (line.split(":", 1) for line in lines)
        return {names[name]: int(value.split()[0]) * 1024 for name, value in pairs if name in names}

    def build(self, limit: float) -> dict:
        """Builds, and measures seconds and memory: peak and settled, both beyond what the process had before."""
        self.ask_ready()
        before = self.status()
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # the peak counts from here
        out = self.ask("build", limit)
        peak = self.status()["peak"] - before["resident"]
        said = self.ask("memory")
        settled = self.status()["anonymous"] - before["anonymous"]
        vectors = self.set.rows * self.set.dim * 4 if said["shares"] else 0
        return {**out, "peak": peak, "resident": settled + vectors, "bytes": said["bytes"], "hot": said["hot"]}

    def ask_ready(self) -> None:
        """Waits until the process has read the data: the first answer means that it has."""
        self.ask("filter - 0")

    def close(self) -> None:
        try:
            self.process.stdin.write(b"quit\n")
            self.process.stdin.close()
            self.process.wait(60)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.work, ignore_errors=True)


def load() -> float:
    return os.getloadavg()[0]
