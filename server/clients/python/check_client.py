"""Every method of the official Python client that a single Chroma node supports, against a running server.

    python check_client.py --port 8000 [--reset] [--reference] [--only TEXT]

--reset also checks client.reset(), which deletes everything: for a server started for this purpose.
"""

import argparse
import asyncio
import sys
import warnings

import check_admin  # noqa: F401  (registers its checks)
import check_records  # noqa: F401
import check_search  # noqa: F401
from harness import run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--reset", action="store_true")
    parser.add_argument("--only", default="", metavar="TEXT", help="checks whose name contains TEXT")
    parser.add_argument("--reference", action="store_true", help="the server is Chroma's own: its known bugs pass")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # the client warns of its own deprecations
    skip = set() if args.reset else {"reset"}
    passed, failed = asyncio.run(run(args.host, args.port, args.reference, skip, args.only))
    print(f"python: {passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)
