"""What is measured of all peers on one set: build, knobs for a recall, rounds, the curve, filters."""

import contextlib
import statistics
import sys
import time
from dataclasses import dataclass

from driver import Adapter, Broken, Unsupported, load
from peers import BASELINE, OURS, Peer
from sets import SCALE, Set, Truth

TARGETS = (0.95, 0.99)
CURVE = (10, 20, 40, 80, 120, 200, 400, 800)
SELECTIVITIES = (0.5, 0.2, 0.1, 0.03, 0.01, 0.001)
FILTERED_QUERIES = 200
DISTURBED = 1.1  # wall clock over processor time: above it somebody else had the core
PASS = 2.0  # seconds that a pass over the queries may take
SHORT = 0.1  # and that it should at least
HOPELESS = 0.05  # seconds a query from which on a larger knob is not tried


@dataclass
class Limits:
    """How much is measured: rounds, the end of the time, and how long one build may take."""

    rounds: int
    ends: float
    build: float
    quick: bool = False

    def left(self) -> float:
        return self.ends - time.monotonic()


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Run:
    """One set, its peers all built and waiting."""

    def __init__(self, s: Set, limits: Limits, core: int):
        self.set, self.limits, self.core = s, limits, core
        self.truth = Truth(s)
        self.adapters: dict[str, Adapter] = {}
        self.out: dict = {"set": s.name, "rows": s.rows, "dim": s.dim, "metric": s.metric, "about": s.about, "sums": s.sums, "rounds": limits.rounds, "peers": {}}

    def start(self, peer: Peer) -> None:
        entry = self.out["peers"][peer.name] = {}
        if self.limits.left() < 0:
            entry["error"] = "not run: the time was over"
            return
        adapter = Adapter(peer, self.set, self.core)
        try:
            entry["build"] = adapter.build(min(self.limits.build, max(60, self.limits.left())))
        except Broken as e:
            entry["error"] = str(e)
            adapter.close()
            say(f"{self.set.name}: {peer.name}: {e}")
            return
        self.adapters[peer.name] = adapter
        b = entry["build"]
        say(f"{self.set.name}: {peer.name} built in {b['cpu']:.1f} s of CPU, {b['wall']:.1f} s; {b['resident'] / self.set.rows:.0f} bytes a row")

    def drop(self, name: str, error: Exception) -> None:
        self.out["peers"][name]["error"] = str(error)
        say(f"{self.set.name}: {name}: {error}")
        self.adapters.pop(name).close()

    def close(self) -> None:
        for adapter in self.adapters.values():
            adapter.close()
        self.adapters.clear()

    def each(self, names=None):
        return [(name, a) for name, a in self.adapters.items() if names is None or name in names]

    def rebuild(self, peer: Peer, times: int) -> None:
        """Builds again in fresh processes; the medians count."""
        builds = [self.out["peers"][peer.name]["build"]]
        for _ in range(times):
            adapter = Adapter(peer, self.set, self.core)
            try:
                builds.append(adapter.build(self.limits.build))
            finally:
                adapter.close()
        entry = self.out["peers"][peer.name]["build"]
        entry.update(cpu=statistics.median(b["cpu"] for b in builds), wall=statistics.median(b["wall"] for b in builds), times=len(builds))


class Question:
    """Queries under one filter, asked of one peer: how many fit into a pass, which knob gives a recall, how long they take."""

    def __init__(self, run: Run, name: str, column: str = "", below: int = 0, queries: int = 1000):
        self.run, self.name, self.adapter = run, name, run.adapters[name]
        self.column, self.below = column, below
        self.count = min(queries, len(run.truth.queries))
        self.span = PASS if queries > FILTERED_QUERIES else PASS / 2
        self.known: dict[int, float] = {}
        self.seconds = 1.0

    def aim(self) -> None:
        self.adapter.ask(f"filter {self.column or '-'} {self.below}")

    def recall(self, ef: int) -> float:
        if ef not in self.known:
            for _ in range(2):  # a slow peer is noticed before it is asked everything; what it loads first does not count
                took, found = self.adapter.search(ef, min(self.count, 20))
            each = took["wall"] / len(found)
            self.count = max(min(20, self.count), min(self.count, int(self.span / each))) if each > 0 else self.count
            took, found = self.adapter.search(ef, self.count)
            self.seconds = took["cpu"] or took["wall"]
            self.known[ef] = self.run.truth.recall(found, self.column or None, self.below)
        return self.known[ef]

    def smallest(self, target: float, least: int, most: int) -> int | None:
        """The smallest knob that reaches the recall, by doubling and bisection; None when the largest does not."""
        high = least
        while self.recall(high) < target:
            if high >= most or self.seconds > HOPELESS * self.count:
                return None
            least, high = high, min(most, high * 2)
        while high - least > max(1, high // 100):
            middle = (least + high) // 2
            least, high = (least, middle) if self.recall(middle) >= target else (middle, high)
        return high if self.recall(least) < target else least

    def measure(self, ef: int) -> dict:
        """Microseconds a query, asked again when somebody else had the core meanwhile, three times at most."""
        passes = max(1, min(50, int(SHORT / max(1e-6, self.seconds))))
        for attempt in range(3):
            took, found = self.adapter.search(ef, self.count, passes)
            if took["wall"] <= DISTURBED * took["cpu"]:
                break
        self.seconds = (took["cpu"] or took["wall"]) / passes
        each = 1e6 / (passes * len(found))
        recall = self.run.truth.recall(found, self.column or None, self.below)
        return {"us": took["cpu"] * each, "wall_us": took["wall"] * each, "recall": round(recall, 5), "disturbed": took["wall"] > DISTURBED * took["cpu"], "load": round(load(), 2)}


def summary(rounds: list[dict], against: list[dict] | None) -> dict:
    """Medians of rounds; the ratio is that of times of the same round: above 1 the peer is slower than what it is compared with."""
    times = [r["us"] for r in rounds]
    out = {"us": statistics.median(times), "least": min(times), "most": max(times), "wall_us": statistics.median(r["wall_us"] for r in rounds)}
    out["recall"] = rounds[-1]["recall"]
    out["steady"] = len({r["recall"] for r in rounds}) == 1
    out["disturbed"] = sum(r["disturbed"] for r in rounds)
    out["load"] = max(r["load"] for r in rounds)
    if against:
        out["ratio"] = statistics.median(a["us"] / b["us"] for a, b in zip(rounds, against))
    return out


def interleaved(run: Run, questions: dict[str, tuple[Question, int]], rounds: int) -> dict[str, dict]:
    """Rounds of A, B, C, A, B, C; every peer's ratio is against ours, of the same round."""
    measured: dict[str, list[dict]] = {name: [] for name in questions}
    for question, ef in questions.values():
        question.adapter.search(ef, min(200, question.count))
    for _ in range(rounds):
        for name, (question, ef) in questions.items():
            try:
                measured[name].append(question.measure(ef))
            except Broken as e:
                run.drop(name, e)
                questions = {n: q for n, q in questions.items() if n != name}
    out = {}
    for name, (question, ef) in questions.items():
        out[name] = {"ef": ef, "queries": question.count, **summary(measured[name], measured.get(OURS))}
        if peer_of(run, name).ours and not out[name]["steady"]:
            run.out.setdefault("faults", []).append(f"{run.set.name}: {name}: the same question had different answers")
    return out


def searches(run: Run) -> None:
    """Knobs and rounds for every target, and the curve of recall against time."""
    for target in TARGETS:
        questions = {}
        for name, _ in run.each():
            try:
                question = Question(run, name)
                question.aim()
                ef = question.smallest(target, *peer_of(run, name).knob)
            except Broken as e:
                run.drop(name, e)
                continue
            if ef is None:
                best = max(question.known.values())
                run.out["peers"][name].setdefault("search", {})[str(target)] = {"never": round(best, 4)}
                say(f"{run.set.name}: {name} does not reach {target}: {best:.3f} at most")
            else:
                questions[name] = question, ef
        for name, result in interleaved(run, questions, run.limits.rounds).items():
            run.out["peers"][name].setdefault("search", {})[str(target)] = result
            say(f"{run.set.name}: {name} at {target}: ef {result['ef']}, {result['us']:.1f} us, recall {result['recall']:.4f}, {result.get('ratio', 1):.2f} x ours")
    for name, _ in run.each():
        try:
            question = Question(run, name)
            question.aim()
            points = []
            for ef in CURVE:
                if peer_of(run, name).knob[0] <= ef <= max(peer_of(run, name).knob):
                    question.recall(ef)
                    points.append({"ef": ef, **question.measure(ef)})
            run.out["peers"][name]["curve"] = points
        except Broken as e:
            run.drop(name, e)


def inside(run: Run, name: str = "ours-engine") -> None:
    """The engine's queries beside searches of the graph of its one segment, in turn."""
    for _, adapter in run.each({name}):
        entry = run.out["peers"][name]
        for target, result in entry.get("search", {}).items():
            if "ef" not in result:
                continue
            question = Question(run, name)
            question.aim()
            question.recall(result["ef"])
            rounds = {"inside 1": [], "inside 0": []}
            try:
                for _ in range(run.limits.rounds):
                    for way, measured in rounds.items():
                        adapter.ask(way)
                        question.adapter.search(result["ef"], question.count)
                        measured.append(question.measure(result["ef"]))
            except Broken as e:
                run.drop(name, e)
                return
            found = summary(*rounds.values())
            entry.setdefault("inside", {})[target] = {"ef": result["ef"], **found}
            if len({m["recall"] for measured in rounds.values() for m in measured}) != 1:
                run.out.setdefault("faults", []).append(f"{run.set.name}: {name}: its graph gives other answers than it does")
            say(f"{run.set.name}: {name} at {target}: {found['ratio']:.2f} of the queries of its graph")


def filters(run: Run, names: set[str]) -> None:
    """Every kind and selectivity: the smallest knob for a recall of 0.95, then rounds."""
    cells = run.out.setdefault("filtered", [])
    most = 2048 if run.limits.quick else 4096
    for column in ("random", "correlated"):
        for share in SELECTIVITIES:
            below = round(share * SCALE)
            cell = {"column": column, "share": share, "peers": {}}
            if run.limits.left() < 0:
                return
            questions = {}
            for name, _ in run.each(names):
                try:
                    question = Question(run, name, column, below, FILTERED_QUERIES)
                    question.aim()
                    ef = question.smallest(TARGETS[0], peer_of(run, name).knob[0], min(most, peer_of(run, name).knob[1]))
                except Unsupported:
                    continue
                except Broken as e:
                    run.drop(name, e)
                    continue
                if ef is None:
                    cell["peers"][name] = {"never": round(max(question.known.values()), 4)}
                else:
                    questions[name] = question, ef
            cell["peers"].update(interleaved(run, questions, max(3, min(5, run.limits.rounds))))
            cells.append(cell)
            best = sorted((r["us"], n) for n, r in cell["peers"].items() if "us" in r)
            say(f"{run.set.name}: {column} {share:.1%}: " + ", ".join(f"{n} {us:.1f} us" for us, n in best[:5]))
    for _, adapter in run.each(names):
        adapter.ask("filter - 0")


def merge(run: Run, parts: int = 4, times: int = 3) -> None:
    """Segments joined into one, as the engine does in the background, and hnswlib's build of all rows: in turn, each in a fresh process, for
    minutes later a machine may be another one. The median of the ratios counts."""
    if OURS not in run.adapters or BASELINE not in run.adapters:
        return
    merges, builds, recalls = [], [], {}
    try:
        for _ in range(times):
            with contextlib.closing(Adapter(peer_of(run, OURS), run.set, run.core)) as ours:
                ours.ask_ready()
                merges.append(ours.ask(f"merge {parts}", run.limits.build))
                question = Question(run, OURS)
                question.adapter = ours
                recalls = recalls or {ef: question.recall(ef) for ef in (50, 100)}
            with contextlib.closing(Adapter(peer_of(run, BASELINE), run.set, run.core)) as other:
                builds.append(other.build(run.limits.build))
    except Broken as e:
        run.out.setdefault("faults", []).append(f"{run.set.name}: merge: {e}")
        return
    median = lambda of, what: statistics.median(x[what] for x in of)
    run.out["merge"] = {
        "parts": parts, "recall": recalls, "rounds": [[m["cpu"], b["cpu"]] for m, b in zip(merges, builds)],
        "cpu": median(merges, "cpu"), "wall": median(merges, "wall"), "baseline": median(builds, "cpu"),
        "ratio": statistics.median(b["cpu"] / m["cpu"] for m, b in zip(merges, builds)),
    }  # fmt: skip
    m = run.out["merge"]
    say(f"{run.set.name}: {parts} segments merged in {m['cpu']:.1f} s of CPU, hnswlib builds all in {m['baseline']:.1f} s: {m['ratio']:.2f}")


def peer_of(run: Run, name: str) -> Peer:
    return run.adapters[name].peer
