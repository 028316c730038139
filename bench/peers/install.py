"""Installs the peers at pinned versions below build/peers: wheels into an environment, hnswlib's source and the Go peers compiled.

    python3 bench/peers/install.py

What is there already is left as it is. requirements.txt and go/go.mod say the versions; what cannot be installed is said and left out.
"""

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "peers"
HNSWLIB, HNSWLIB_SHA256 = "0.8.0", "cb6d037eedebb34a7134e7dc78966441dfd04c9cf5ee93911be911ced951c44c"


def run(*words: str, **options) -> None:
    print("+", *[str(w) for w in words], file=sys.stderr, flush=True)
    subprocess.run([str(w) for w in words], check=True, **options)


def python() -> None:
    wanted, have = HERE / "requirements.txt", BUILD / "python" / "installed.txt"
    if have.exists() and have.read_bytes() == wanted.read_bytes():
        return
    venv.create(BUILD / "python", clear=True, with_pip=True)
    pip = [BUILD / "python/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        run(*pip, "-r", wanted)
    except subprocess.CalledProcessError:  # one that has no wheel for this machine must not keep the others away
        for line in wanted.read_text().splitlines():
            if not line.startswith("#"):
                attempt(line, lambda: run(*pip, line))
    have.write_bytes(wanted.read_bytes())


def hnswlib() -> None:
    """The header out of the package's source, and the adapter compiled for this very processor."""
    source, binary, adapter = BUILD / f"hnswlib-{HNSWLIB}", BUILD / "bin" / "hnswlib", HERE / "adapters" / "hnswlib.cpp"
    if not source.exists():
        pip = [BUILD / "python/bin/python", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        run(*pip, "--no-deps", "--no-binary", "hnswlib", "--dest", BUILD, f"hnswlib=={HNSWLIB}")
        run("sha256sum", "--check", "--quiet", input=f"{HNSWLIB_SHA256}  {source}.tar.gz\n", text=True)
        run("tar", "-xzf", f"{source}.tar.gz", "-C", BUILD)
    if not binary.exists() or binary.stat().st_mtime < adapter.stat().st_mtime:
        run("g++", "-std=c++17", "-O3", "-march=native", "-w", "-isystem", source, "-o", binary, adapter)


def go() -> None:
    (BUILD / "bin").mkdir(parents=True, exist_ok=True)
    for peer in ("coder", "chromem", "weaviate"):
        attempt(peer, lambda: run("go", "build", "-o", BUILD / "bin" / peer, f"./{peer}", cwd=HERE / "go"))


def ours() -> None:
    run("go", "build", "-o", BUILD / "bin" / "ours", "./bench/peers/ours", cwd=ROOT)
    run("go", "build", "-o", BUILD / "bin" / "chromad", "./cmd/chromad", cwd=ROOT)
    run("go", "test", "-c", "-o", BUILD / "bin" / "http", "./bench", cwd=ROOT)


def attempt(name: str, install) -> None:
    try:
        install()
    except (subprocess.CalledProcessError, OSError) as e:
        print(f"{name} is not installed and will be left out: {e}", file=sys.stderr)


def main() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    python()
    (BUILD / "bin").mkdir(parents=True, exist_ok=True)
    attempt("hnswlib", hnswlib)
    go()
    ours()


if __name__ == "__main__":
    main()
