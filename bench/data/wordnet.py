"""WordNet 3.0's synsets as records: one JSON line each, in the order of the database files.

A record is what a collection holds: an id, a document, and metadata.

    {"id": "wn-02084071-n",
     "document": "dog, domestic dog, Canis familiaris: a member of the genus Canis (probably ...) ...",
     "metadata": {"pos": "noun", "topic": "noun.animal", "lemma": "dog", "lemmas": [...], "examples": [...], "relations": 23}}

`topic` is the lexicographer file (45 of them), `relations` counts the synset's pointers to others, `examples` is absent where WordNet
has none. The format of the files is wndb(5WN).
"""

import json
import re
from pathlib import Path
from typing import Iterator

SYNSETS = 117_659
FILES = (("noun", "n", "data.noun"), ("verb", "v", "data.verb"), ("adjective", "a", "data.adj"), ("adverb", "r", "data.adv"))

# lexnames(5WN): the number in the second column of a data line.
TOPICS = """adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition
noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person noun.phenomenon
noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state noun.substance noun.time verb.body verb.change
verb.cognition verb.communication verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion
verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl""".split()

MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand: no part of the word
EXAMPLE = re.compile(r'"([^"]+)"')


def split_gloss(gloss: str) -> tuple[str, list[str]]:
    """A gloss is a definition, then quoted examples; a quotation mark inside the definition does not start one."""
    gloss = gloss.strip()
    start = 0 if gloss.startswith('"') else gloss.find('; "')
    if start < 0:
        return gloss.rstrip("; "), []
    examples = [example.strip() for example in EXAMPLE.findall(gloss[start:])]
    return gloss[:start].rstrip("; "), [example for example in examples if example]


def parse(line: str, pos: str, letter: str) -> dict:
    fields, _, gloss = line.partition(" | ")
    fields = fields.split(" ")
    count = int(fields[3], 16)
    lemmas = [MARKER.sub("", fields[4 + 2 * i]).replace("_", " ") for i in range(count)]
    definition, examples = split_gloss(gloss)
    metadata = {
        "pos": pos,
        "topic": TOPICS[int(fields[1])],
        "lemma": lemmas[0],
        "lemmas": lemmas,
        "relations": int(fields[4 + 2 * count]),
    }
    if examples:
        metadata["examples"] = examples
    return {"id": f"wn-{fields[0]}-{letter}", "document": f"{', '.join(lemmas)}: {definition}", "metadata": metadata}


def records(folder: Path) -> Iterator[dict]:
    for pos, letter, name in FILES:
        with open(folder / name, encoding="utf-8") as lines:
            for line in lines:
                if not line.startswith("  "):  # the licence stands on top of every file
                    yield parse(line, pos, letter)


def write(folder: Path, target: Path) -> None:
    rows = [json.dumps(record, ensure_ascii=False) for record in records(folder)]
    if len(rows) != SYNSETS:
        raise SystemExit(f"{folder}: {len(rows)} synsets, expected {SYNSETS}: not WordNet 3.0?")
    part = target.with_suffix(".part")
    part.write_text("\n".join(rows) + "\n", encoding="utf-8")
    part.replace(target)


if __name__ == "__main__":
    import sys

    write(Path(sys.argv[1]), Path(sys.argv[2]))
