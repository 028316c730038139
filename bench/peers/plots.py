"""Plots of the results, as SVG and PNG: recall against queries a second, build time, memory."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter  # noqa: E402

# One colour for each peer in all plots; ours stands out. From Okabe and Ito's palette, which the colour-blind can tell apart.
STYLE = {
    "ours": ("#d55e00", "o", "-"), "ours-engine": ("#d55e00", "o", ":"), "hnswlib": ("#000000", "s", "-"), "faiss": ("#0072b2", "^", "-"),
    "usearch": ("#009e73", "v", "-"), "weaviate": ("#cc79a7", "D", "-"), "faiss-sq8": ("#0072b2", "^", "--"), "usearch-i8": ("#009e73", "v", "--"),
    "weaviate-rq": ("#cc79a7", "D", "--"), "qdrant-sq8": ("#e69f00", "P", "--"), "qdrant": ("#e69f00", "P", "-"), "chroma": ("#56b4e9", "X", "-"),
    "lancedb": ("#999999", "*", "-"),
}
STORES = ("ours-engine", "chroma", "qdrant", "lancedb")  # hold more than an index
WORST, BEST = 0.7, 0.9997  # recalls that are drawn

plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "chromad", "svg.fonttype": "path", "figure.dpi": 110})


def save(figure, folder: Path, name: str) -> str:
    figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return f"img/{name}.svg"


def grid(n: int, width: float, height: float):
    columns = min(3, n)
    lines = (n + columns - 1) // columns
    figure, axes = plt.subplots(lines, columns, figsize=(width * columns, height * lines), squeeze=False, layout="constrained")
    for ax in axes.ravel()[n:]:
        ax.set_visible(False)
    return figure, axes.ravel()[:n]


def recall(results: list[dict], folder: Path, titles: dict[str, str]) -> str:
    figure, axes = grid(len(results), 4.4, 3.5)
    handles = {}
    for ax, r in zip(axes, results):
        for name, (colour, marker, line) in STYLE.items():
            points = [p for p in r["peers"].get(name, {}).get("curve", []) if WORST <= p["recall"]]
            points = [p for i, p in enumerate(points) if i == 0 or points[i - 1]["recall"] < BEST]
            if points:
                x = [1 - min(p["recall"], BEST) for p in points]
                wide = 2.4 if name == "ours" else 1.1
                handles[name], = ax.plot(x, [1e6 / p["us"] for p in points], color=colour, marker=marker, linestyle=line, linewidth=wide, markersize=4)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(1 - WORST, 1 - BEST)
        ax.xaxis.set_major_locator(FixedLocator([0.3, 0.1, 0.05, 0.01, 0.001]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{1 - v:.3g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        ax.grid(True, which="major", linewidth=0.4, alpha=0.5)
        ax.set_title(f"{r['set']}: {r['rows']:,} × {r['dim']}")
        ax.set_xlabel("recall@10")
        ax.set_ylabel("queries a second, one core")
    figure.legend(handles.values(), [titles[n] for n in handles], loc="outside lower center", ncols=4, frameon=False)
    return save(figure, folder, "recall-against-queries")


def bars(results: list[dict], folder: Path, titles: dict[str, str], name: str, what: str, value) -> str:
    figure, axes = grid(len(results), 4.4, 2.9)
    for ax, r in zip(axes, results):
        names = [n for n in STYLE if n not in STORES and value(r, n)]
        values = [value(r, n) for n in names]
        places = range(len(names))
        ax.barh(places, values, color=[STYLE[n][0] for n in names], alpha=0.9, height=0.7)
        for place, v in zip(places, values):
            ax.text(v, place, f" {v:,.0f}" if v >= 10 else f" {v:.2g}", va="center", fontsize=8)
        ax.set_yticks(places, [titles[n] for n in names])
        ax.invert_yaxis()
        ax.margins(x=0.15)
        ax.set_title(f"{r['set']}: {r['rows']:,} × {r['dim']}")
        ax.set_xlabel(what)
    return save(figure, folder, name)


def seconds(r: dict, name: str) -> float:
    return r["peers"].get(name, {}).get("build", {}).get("cpu", 0)


def bytes_of(r: dict, name: str) -> float:
    """What stays in memory: hot bytes where an index says which those are."""
    b = r["peers"].get(name, {}).get("build")
    return 0 if not b else ((b["hot"] if name == "ours" else 0) or b["bytes"] or b["resident"]) / r["rows"]


def draw(results: list[dict], folder: Path, titles: dict[str, str]) -> list[str]:
    return [
        recall(results, folder, titles),
        bars(results, folder, titles, "build-time", "seconds of the processor, one core", seconds),
        bars(results, folder, titles, "memory", "bytes a vector (chromad: hot bytes)", bytes_of),
    ]
