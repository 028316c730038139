"""Starts and stops a server for the bench and the tutorial: chromad, or any command that speaks Chroma's API."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A server process over one directory. `command` is a template with {path} and {port}."""

    def __init__(self, command: str, path: Path):
        self.command, self.path, self.port = command, path, free_port()
        self.process: subprocess.Popen | None = None
        self.log = tempfile.TemporaryFile()

    def start(self) -> float:
        """Starts and waits for the heartbeat; the seconds that took."""
        words = [word.format(path=self.path, port=self.port) for word in shlex.split(self.command)]
        if not shutil.which(words[0]):
            raise SystemExit(f"{words[0]} is not there; make build makes bin/chromad")
        began = time.perf_counter()
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log)
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v2/heartbeat", timeout=60).read()
                return time.perf_counter() - began
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None or time.perf_counter() - began > 120:
                    self.log.seek(0)
                    raise SystemExit(f"{' '.join(words)} did not start:\n{self.log.read().decode()[-2000:]}")
                time.sleep(0.002)

    def stop(self) -> float:
        """Ends it as Ctrl-C does; the seconds until it was gone."""
        if self.process is None:
            return 0.0
        began = time.perf_counter()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise SystemExit("the server did not stop within two minutes")
        finally:
            self.process = None
        return time.perf_counter() - began

    def memory(self) -> dict[str, int]:
        """Bytes resident now, anonymous (heap) and mapped files apart, and the peak. Linux only; elsewhere empty."""
        names = {"VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "mapped", "VmHWM": "peak"}
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except (OSError, AttributeError):
            return {}
        pairs = (line.split(":", 1) for line in lines)
        return {names[key]: int(value.split()[0]) * 1024 for key, value in pairs if key in names}

    def disk(self) -> int:
        """Bytes allocated below the path."""
        return sum(os.lstat(os.path.join(at, name)).st_blocks * 512 for at, _, names in os.walk(self.path) for name in names)


def add_server_options(parser) -> None:
    parser.add_argument("--binary", default=str(ROOT / "bin" / "chromad"), help="the chromad to start (default bin/chromad)")
    parser.add_argument("--command", help="another server, as 'chroma run --path {path} --port {port}'")


def server_command(args) -> str:
    return args.command or f"{shlex.quote(args.binary)} run --path {{path}} --port {{port}}"
