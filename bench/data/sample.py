"""Chooses the 2,000 records that the repository carries, and embeds the tutorial's questions.

    build/wordnet/venv/bin/python bench/data/sample.py data/wordnet bench/data/sample

Needs the full set. The choice is deterministic: for every subject below the best connected synsets and some at random (by the hash of
their id), then every part of speech in proportion. Vectors are kept as float16 (1.5 MB; the answers stay the same).
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np

import minilm

ROWS = 2000

# What the tutorial asks about: (how many, which records).
SUBJECTS = [
    (160, lambda r: r["metadata"]["topic"] == "noun.animal"),
    (80, lambda r: r["metadata"]["topic"] == "noun.food"),
    (60, lambda r: r["metadata"]["topic"] == "noun.feeling"),
    (60, lambda r: r["metadata"]["topic"] == "verb.weather"),
    (80, lambda r: r["metadata"]["topic"] == "verb.motion"),
    (60, lambda r: r["metadata"]["topic"] == "verb.communication"),
    (80, lambda r: r["metadata"]["pos"] == "adverb"),
    (120, lambda r: re.search(r"\b(music|musical|song|instrument)\b", r["document"])),
    (30, lambda r: re.search(r"\b(flightless|careless|carelessly|angrily)\b", r["document"])),
    (30, lambda r: re.search(r"\b(barks?|barking|cold|freezing)\b", r["document"])),
    (120, lambda r: re.search(r"\b(water|river|sea|ocean|rain)\b", r["document"])),
]

QUESTIONS = [
    "an animal that barks",
    "a musical instrument with strings",
    "water falling from the sky",
    "something to do with water",
    "to move quickly on foot",
    "a feeling of great happiness",
    "a person who writes songs",
    "something sweet to eat",
    "a large body of salt water",
    "in a careless way",
    "very cold weather",
    "a bird that cannot fly",
    "a tool for cutting",
    "to speak angrily",
    "how a database remembers things",
    "chromad: a database that remembers by meaning",
]


def order(record: dict) -> bytes:
    return hashlib.sha256(record["id"].encode()).digest()


def choose(records: list[dict]) -> list[int]:
    chosen: set[int] = set()
    by_hash = sorted(range(len(records)), key=lambda row: order(records[row]))
    by_links = sorted(by_hash, key=lambda row: -records[row]["metadata"]["relations"])
    for count, belongs in SUBJECTS:
        for ranking, share in ((by_links, count // 2), (by_hash, count - count // 2)):
            chosen.update([row for row in ranking if row not in chosen and belongs(records[row])][:share])
    rest = ROWS - len(chosen)
    for pos in ("adverb", "adjective", "verb", "noun"):
        rows = [row for row in by_hash if records[row]["metadata"]["pos"] == pos]
        share = ROWS - len(chosen) if pos == "noun" else round(rest * len(rows) / len(records))
        chosen.update([row for row in rows if row not in chosen][:share])
    return sorted(chosen)


def main(source: Path, target: Path) -> None:
    lines = (source / "records.jsonl").read_text(encoding="utf-8").splitlines()
    vectors = np.memmap(source / "vectors.f32", "<f4", "r").reshape(len(lines), minilm.DIM)
    rows = choose([json.loads(line) for line in lines])
    target.mkdir(parents=True, exist_ok=True)
    (target / "records.jsonl").write_text("".join(lines[row] + "\n" for row in rows), encoding="utf-8")
    vectors[rows].astype("<f2").tofile(target / "vectors.f16")
    embeddings = minilm.Encoder().encode(QUESTIONS)
    entries = (f"{json.dumps(text)}: {json.dumps([round(float(x), 4) for x in row])}" for text, row in zip(QUESTIONS, embeddings))
    (target / "questions.json").write_text("{\n" + ",\n".join(entries) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
