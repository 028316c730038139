"""Prints the vector of a text as JSON, for query_embeddings.

build/wordnet/venv/bin/python bench/data/question.py "an animal that barks"
"""

import json
import sys

import minilm

if __name__ == "__main__":
    print(json.dumps([round(float(x), 6) for x in minilm.Encoder().encode([" ".join(sys.argv[1:])])[0]]))
