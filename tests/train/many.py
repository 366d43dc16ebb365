"""Calls a command line's `main` many times in one process: `many.py train.sft '[["recipe=..."], ...]'`.

Prints a line of JSON for each call: its exit code and what it wrote.
"""

import contextlib
import importlib
import io
import json
import sys
import traceback
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

main = importlib.import_module(sys.argv[1]).main
for argv in json.loads(sys.argv[2]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except Exception:
            traceback.print_exc()
            code = 1
    print(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue()}))
