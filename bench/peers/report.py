"""Tables and plots of the results: a part of docs/benchmarks.md between two markers, and docs/img."""

import json
import os
import platform
import re
import subprocess
from pathlib import Path

import plots
from peers import BASELINE, BUILD, CODES, EXACT, FLOAT, HERE, OURS, PEERS, ROOT, STORE
from sets import SETS

BEGIN, END = "<!-- bench/peers/run.py writes what follows -->", "<!-- to here -->"
TITLES = {peer.name: peer.title for peer in PEERS}


def said(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def context() -> dict:
    """What the figures depend on beside the data."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    flags = re.search(r"flags\s*: (.*)", Path("/proc/cpuinfo").read_text())
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    pages = re.search(r"\[(.*)\]", setting.read_text()) if setting.exists() else None
    go = [line.split() for line in (HERE / "go" / "go.mod").read_text().splitlines()]
    wanted = ("coder/hnsw", "chromem-go", "weaviate/weaviate")
    versions = [line.strip().replace("==", " ") for line in (HERE / "requirements.txt").read_text().splitlines() if "==" in line]
    return {
        "machine": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, {'AVX-512 VNNI' if flags and 'avx512_vnni' in flags[1] else 'no AVX-512 VNNI'}",
        "system": f"{platform.system()} {platform.release()}, large pages: {pages[1] if pages else 'unknown'}",
        "compilers": f"{said('go', 'version').removeprefix('go version ')}; {said('g++', '--version').split(chr(10))[0]}, -O3 -march=native",
        "commit": said("git", "rev-parse", "--short", "HEAD") + (" and changes" if said("git", "status", "--porcelain", "--", "*.go", "*.s") else ""),
        "versions": ["hnswlib 0.8.0", *versions, *(" ".join(w[:2]) for w in go if len(w) > 1 and w[0].endswith(wanted))],
    }


def number(x: float) -> str:
    if x >= 1000:
        return f"{x:,.0f}"
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2g}" if x < 1 else f"{x:.1f}"


def times(x: float) -> str:
    return f"{x:,.0f} ×" if x >= 20 else f"{x:.1f} ×" if x >= 10 else f"{x:.2f} ×"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def searched(result: dict, name: str, target: str) -> dict | None:
    return result["peers"].get(name, {}).get("search", {}).get(target)


def ratio(result: dict, name: str, target: str) -> float | None:
    s = searched(result, name, target)
    return s.get("ratio") if s and "us" in s else None


def cell(result: dict, name: str, target: str) -> str:
    peer = result["peers"].get(name)
    if not peer or "error" in peer and not peer.get("search"):
        return ""
    s = searched(result, name, target)
    if not s:
        return ""
    if "never" in s:
        return f"at most {s['never']:.3f}"
    text = number(1e6 / s["us"])
    return text if name == OURS or "ratio" not in s else f"{text} ({times(s['ratio'])})"


def present(results: list[dict], group: tuple[str, ...]) -> list[str]:
    return [p.name for p in PEERS if p.group in group and any(p.name in r["peers"] for r in results)]


def label(result: dict) -> str:
    return f"{result['set']}, {result['rows']:,} × {result['dim']}"


def search_table(results: list[dict], names: list[str]) -> str:
    """Queries a second; in brackets how many times as many ours answers."""
    rows = [[label(r), target] + [cell(r, name, target) for name in names] for r in results for target in ("0.95", "0.99")]
    return table(["set", "recall"] + [TITLES[n] for n in names], rows)


def build_table(results: list[dict], names: list[str]) -> str:
    rows = []
    for r in results:
        ours = r["peers"].get(OURS, {}).get("build", {}).get("cpu")
        line = [label(r)]
        for name in names:
            b = r["peers"].get(name, {}).get("build")
            line.append("" if not b else f"{number(b['cpu'])} s" + (f" ({times(b['cpu'] / ours)})" if ours and name != OURS else "") + f", {number(b['peak'] / 2**20)} MiB")
        rows.append(line)
    return table(["set"] + [TITLES[n] for n in names], rows)


def memory_table(results: list[dict], names: list[str]) -> str:
    rows = []
    for r in results:
        line = [label(r)]
        for name in names:
            b = r["peers"].get(name, {}).get("build")
            line.append("" if not b else number((b["bytes"] or b["resident"]) / r["rows"]) + (f" (hot {number(b['hot'] / r['rows'])})" if b["hot"] else ""))
        rows.append(line)
    return table(["set"] + [TITLES[n] for n in names], rows)


def filter_table(result: dict) -> str:
    names = [p.name for p in PEERS if any(p.name in c["peers"] for c in result["filtered"])]
    rows = []
    for c in result["filtered"]:
        line = [f"{c['column']} {c['share']:.1%}"]
        for name in names:
            s = c["peers"].get(name, {})
            line.append(number(1e6 / max(s["us"], 0.01)) + (f" ({times(s['ratio'])})" if "ratio" in s and name != OURS else "") if "us" in s else f"at most {s['never']:.2f}" if "never" in s else "")
        rows.append(line)
    return table(["rows let through"] + [TITLES[n] for n in names], rows)


def goals(results: list[dict], http: dict | None) -> str:
    """What was to be reached, and the worst that was measured."""
    rows = []

    def goal(what: str, least: float, figures: dict[str, float]) -> None:
        if figures:
            worst = min(figures, key=figures.get)
            listed = ", ".join(f"{k} {v:.2f}" for k, v in figures.items()) if len(figures) <= 8 else f"{worst} {figures[worst]:.2f} is the least of {len(figures)}"
            rows.append([what, f"{least:g} ×", listed, "yes" if figures[worst] >= least else "**no**"])

    def ratios(names: list[str], targets=("0.95", "0.99"), dims=range(10**6)) -> dict[str, float]:
        found = {(r["set"], n, t): ratio(r, n, t) for r in results for n in names for t in targets if r["dim"] in dims}
        return {f"{s} {TITLES[n] + ' ' if len(names) > 1 else ''}{t}": v for (s, n, t), v in found.items() if v}

    for target, small, large in (("0.95", 4, 5), ("0.99", 4.5, 6)):
        goal(f"queries a second against hnswlib at {target}", small, ratios([BASELINE], [target], range(768)))
        goal(f"the same from 768 dimensions on", large, ratios([BASELINE], [target], range(768, 10**6)))
    goal("against float32 peers", 4, ratios(["faiss", "usearch", "weaviate", "coder"]))
    goal("against quantised peers", 1.3, ratios(["faiss-sq8", "usearch-i8", "weaviate-rq"]))
    builds = {r["set"]: [r["peers"].get(n, {}).get("build", {}) for n in (BASELINE, OURS)] for r in results}
    builds = {s: b for s, b in builds.items() if all(b)}
    goal("processor time of hnswlib's build, in ours", 8, {s: b["cpu"] / max(o["cpu"], 1e-9) for s, (b, o) in builds.items()})
    for dims, share in ((range(128, 384), 0.33), (range(384, 768), 0.2), (range(768, 10**6), 0.12)):
        figures = {r["set"]: builds[r["set"]][0]["bytes"] / builds[r["set"]][1]["hot"] for r in results if r["set"] in builds and r["dim"] in dims}
        goal(f"hnswlib's bytes a vector, in our hot ones, from {dims.start} dimensions on", round(1 / share, 1), figures)
    for least, shares in ((2, (0.5, 0.2, 0.1, 0.03)), (10, (0.01, 0.001))):
        figures = {}
        for r in results:
            for c in r.get("filtered", []):
                others = [s["us"] for n, s in c["peers"].items() if "us" in s and not n.startswith("ours")]
                if c["share"] in shares and others and "us" in c["peers"].get(OURS, {}):
                    figures[f"{r['set']} {c['column']} {c['share']:.1%}"] = min(others) / max(c["peers"][OURS]["us"], 0.01)
        goal(f"filtered, against the best peer, {' '.join(f'{s:.1%}' for s in shares)}", least, figures)
    goal("AVX2 against AVX-512, queries a second", 0.75, {k: 1 / v for k, v in ratios(["ours-avx2"]).items()})
    goal("engine against package hnsw over the graph of its one segment, queries a second", 0.9, {f"{r['set']} {t}": f["ratio"] for r in results for t, f in r["peers"].get("ours-engine", {}).get("inside", {}).items()})
    merges = {r["set"]: r["merge"]["ratio"] for r in results if "ratio" in r.get("merge", {})}
    goal("processor time of hnswlib's build of all, in a merge of four segments", 10, merges)
    for key, f in (http or {}).get("figures", {}).items():
        goal(f"over HTTP against Chroma's server: {key}", 4 if key.startswith("add") else 10 if key.startswith("filtered") else 5, {"": f["ratio"]})
    return table(["", "at least", "measured", "reached"], rows)


def notes(results: list[dict]) -> str:
    lines = []
    for p in PEERS:
        if any(p.name in r["peers"] for r in results):
            failed = [f"{r['set']}: {r['peers'][p.name]['error']}" for r in results if "error" in r["peers"].get(p.name, {})]
            unsteady = [r["set"] for r in results if any(not s.get("steady", True) for s in r["peers"].get(p.name, {}).get("search", {}).values())]
            failed += [f"recall differed between rounds on {', '.join(unsteady)}"] if unsteady else []
            lines.append([p.title, p.note + ("; " + "; ".join(failed) if failed else "")])
    return table(["peer", "how it is measured"], [[c.replace("|", "\\|").replace("\n", " ") for c in line] for line in lines])


def commits(results: list[dict]) -> str:
    """The commit, or which sets were measured at which."""
    sets: dict[str, list[str]] = {}
    for r in results:
        sets.setdefault(r["context"]["commit"], []).append(r["set"])
    return next(iter(sets)) if len(sets) == 1 else "; ".join(f"{', '.join(names)}: {commit}" for commit, names in sets.items())


def text(results: list[dict], http: dict | None, images: list[str]) -> str:
    c = results[0]["context"]
    least = min(r["rounds"] for r in results)
    parts = [
        BEGIN,
        table(["", ""], [["machine", c["machine"]], ["system", c["system"]], ["compilers", c["compilers"]], ["commit", commits(results)], ["versions", ", ".join(c["versions"])],
                         ["commands", "<br>".join(f"`{re.sub(r'(?<=[ =])/[^ ]*/', '', c)}`" for c in dict.fromkeys(r.get("command", "run.py") for r in [*results, *([http] if http else [])]))], ["rounds", f"{least}; load of the machine before: " + ", ".join(f"{r['set']} {r['load_before'][0]:.1f}" for r in results)]]),
        "### What was to be reached\n\n" + goals(results, http),
        "### Queries a second, one core\n\nIn brackets how many times as many chromad answers: the median of the ratios of each round.\n\n"
        + search_table(results, present(results, (FLOAT,))),
        "Peers with quantisation, at the same recall of the final answer:\n\n" + search_table(results, [OURS, *present(results, (CODES,))]),
        "Databases in the process, and what compares every row:\n\n" + search_table(results, [OURS, *present(results, (STORE, EXACT))]),
        *[f"![{Path(i).stem.replace('-', ' ')}]({i})" for i in images],
        "### Build\n\nSeconds of the processor on one core, in brackets times ours, and the most memory beyond the data.\n\n" + build_table(results, present(results, (FLOAT, CODES))),
        "### Memory\n\nBytes a vector: what the library says of its index with the vectors, or else what the process grew by; hot is what nearly every step of a search reads.\n\n"
        + memory_table(results, present(results, (FLOAT, CODES))),
    ]
    for r in results:
        if r.get("filtered"):
            parts.append(f"### Filtered, {label(r)}\n\nQueries a second at recall 0.95, in brackets how many times as many chromad answers.\n\n" + filter_table(r))
    for r in results:
        if "ratio" in r.get("merge", {}):
            m = r["merge"]
            parts.append(f"### Merge\n\n{m['parts']} segments of {r['rows'] // m['parts']:,} rows of set {r['set']} into one (`segment.Merge`: graph, vectors and ids): {number(m['cpu'])} s of the processor, hnswlib's build of all rows {number(m['baseline'])} s (medians of {len(m['rounds'])}, in turn); recall at ef 100 is {m['recall'].get('100', 0):.4f}.")
            break
    if http:
        rows = [[key, number(f["chromad"]), number(f["chroma"]), times(f["ratio"])] for key, f in http["figures"].items()]
        parts.append(f"### Over HTTP\n\n{http['rows']:,} rows of {http['data']}, 384 dimensions, defaults of both; the server on one core, the client on the other. Rows and queries a second; filtered is 1 % of the rows.\n\n"
                     + table(["", "chromad", "Chroma 1.5.9", "ratio"], rows))
    sums = [[f"{r['set']}/{name}", f"`{digest}`"] for r in results for name, digest in r["sums"].items()]
    parts += ["### How\n\n" + notes(results), "Data: " + "; ".join(f"{r['set']} is {r['about']}" for r in results) + ".\n\n" + table(["file", "sha256"], sums), END]
    return "\n\n".join(parts) + "\n"


def read(folder: Path) -> tuple[list[dict], dict | None]:
    found = {f.stem: json.loads(f.read_text()) for f in sorted(folder.glob("*.json"))}
    http = found.pop("http", None)
    order = {name: i for i, name in enumerate(SETS)}
    return sorted(found.values(), key=lambda r: (order.get(r["set"], 99), r["set"])), http


def write(folder: Path, root: Path, draft: bool) -> None:
    """Into docs, or a draft below build/peers."""
    results, http = read(folder)
    if not results:
        raise SystemExit(f"{folder}: no results yet; run without --report")
    page = BUILD / "draft" / "benchmarks.md" if draft else root / "docs" / "benchmarks.md"
    (page.parent / "img").mkdir(parents=True, exist_ok=True)
    images = plots.draw(results, page.parent / "img", TITLES)
    new = text(results, http, images)
    old = page.read_text() if page.exists() else f"# Draft\n\n{BEGIN}\n{END}\n"
    begin, end = old.find(BEGIN), old.find(END)
    if begin < 0 or end < begin:
        raise SystemExit(f"{page}: the markers are missing: {BEGIN} and {END}")
    page.write_text(old[:begin] + new.rstrip("\n") + old[end + len(END):])
    print(f"{page} written, {len(images)} plots")
