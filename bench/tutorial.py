"""Runs docs/tutorial.md against a real server and compares what it prints with what the page shows.

    build/clients/python/bin/python bench/tutorial.py [--binary bin/chromad] [--write]

In the page: ```python blocks run in order, in one interpreter; the ```text block after one is its output, to the letter; a ```sh block
with "chromad run" starts the server, or stops and starts it again. Other blocks are not run. --write puts the real outputs into the page.
--full runs the page over the whole set (make data) instead of the sample, and prints the outputs, which are others then.
"""

import argparse
import contextlib
import difflib
import io
import re
import sys
import tempfile
import traceback
from pathlib import Path

from chromad import ROOT, Server, add_server_options, server_command

# What the page reads, and what --full puts in its place.
FULL = {
    "bench/data/sample/records.jsonl": "data/wordnet/records.jsonl",
    'np.fromfile("bench/data/sample/vectors.f16", "<f2").astype("f4")': 'np.fromfile("data/wordnet/vectors.f32", "<f4")',
}

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


class Tour:
    def __init__(self, page: Path, server: Server, full: bool):
        self.page, self.server, self.full = page, server, full
        self.text = page.read_text(encoding="utf-8")
        self.names: dict = {"__name__": "__tutorial__"}
        self.outputs: list[tuple[re.Match, str]] = []
        self.wrong = self.ran = 0

    def line(self, match: re.Match) -> int:
        return self.text.count("\n", 0, match.start()) + 1

    def run(self) -> None:
        printed = None
        for match in FENCE.finditer(self.text):
            kind, body = match.groups()
            if kind == "sh" and re.search(r"\bchromad run\b", body):
                self.server.stop()
                self.server.start()
            elif kind == "python":
                printed = self.python(match, body)
                if printed is None:
                    return
            elif kind == "text":
                self.compare(match, body, printed or "")

    def python(self, match: re.Match, body: str) -> str | None:
        # Line numbers of the page in tracebacks; the page's port becomes the port that was free.
        for sample, whole in FULL.items() if self.full else ():
            body = body.replace(sample, whole)
        code = "\n" * self.line(match) + body.replace("port=8000", f"port={self.server.port}")
        output = io.StringIO()
        self.ran += 1
        try:
            with contextlib.redirect_stdout(output):
                exec(compile(code, str(self.page), "exec"), self.names)
        except Exception:
            self.wrong += 1
            print(f"FAIL  {self.page.name}:{self.line(match)}\n{traceback.format_exc(limit=-3)}")
            return None
        return output.getvalue()

    def compare(self, match: re.Match, shown: str, printed: str) -> None:
        self.outputs.append((match, printed))
        where = f"{self.page.name}:{self.line(match)}"
        if self.full:
            print(f"{where}\n{printed}")
            return
        if shown == printed:
            print(f"ok    {where}")
            return
        self.wrong += 1
        diff = difflib.unified_diff(shown.splitlines(), printed.splitlines(), "the page shows", "the server answers", lineterm="", n=1)
        print(f"FAIL  {where}", *diff, sep="\n      ")

    def write(self) -> None:
        text = self.text
        for match, printed in reversed(self.outputs):
            text = text[: match.start()] + f"```text\n{printed}```" + text[match.end() :]
        self.page.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "tutorial.md")
    parser.add_argument("--write", action="store_true", help="put the outputs into the page")
    parser.add_argument("--full", action="store_true", help="over data/wordnet; nothing is compared")
    add_server_options(parser)
    args = parser.parse_args()
    with contextlib.chdir(ROOT), tempfile.TemporaryDirectory() as folder:
        server = Server(server_command(args), Path(folder) / "data")
        tour = Tour(args.page, server, args.full)
        try:
            tour.run()
        finally:
            server.stop()
    if args.write and not args.full:
        tour.write()
    print(f"tutorial: {tour.ran} blocks, {tour.wrong} wrong")
    return 1 if tour.wrong or not tour.ran else 0


if __name__ == "__main__":
    sys.exit(main())
