"""Stand-in for training and reporting, so that the launcher can be tested in seconds.

`fake_submit.py submit ...` is `python -m slurm.submit ...` with the two other modes as its commands.
`fake_submit.py train recipe=FILE` writes the files a run writes, a step every 0.05 s, and goes on from its log. A file
`fail` or `slow` in the run's folder makes it fail or take a minute.
`fake_submit.py report DIR` writes report.html.
"""

import json
import os
import sys
import time
from pathlib import Path

STEPS = 4


def train(word: str) -> int:
    from recipes.recipe import resolve

    run = resolve([word]).run_dir
    with (run / "starts.txt").open("a") as file:
        file.write(f"{os.getpid()} threads {os.environ['OMP_NUM_THREADS']}\n")
    (run / "mix.json").write_text(json.dumps({"steps": STEPS}))
    log = run / "log.jsonl"
    done = len(log.read_text().splitlines()) if log.exists() else 0
    for step in range(done + 1, STEPS + 1):
        time.sleep(60 / STEPS if (run / "slow").exists() else 0.05)
        with log.open("a") as file:
            file.write(json.dumps({"step": step, "loss": 1.0 / step}) + "\n")
        if (run / "fail").exists():
            print("the fake training was told to fail")
            return 3
    (run / "DONE.json").write_text("{}")
    return 0


def report(folder: str) -> int:
    (Path(folder) / "report.html").write_text("fake")
    return 0


if __name__ == "__main__":
    mode, *rest = sys.argv[1:]
    if mode == "train":
        sys.exit(train(rest[0]))
    if mode == "report":
        sys.exit(report(rest[0]))
    from slurm.submit import main

    sys.exit(main(rest, lambda processes: [sys.executable, __file__, "train"], [sys.executable, __file__, "report"]))
