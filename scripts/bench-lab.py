"""Measures the laboratory; scripts/bench-lab says what and how."""

import argparse
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench_lib import Mount, about

POLICIES = ["lru", "fifo", "sieve", "s3fifo", "arc", "opt"]


@dataclass
class Bench:
    distrofs: str
    fsload: str
    archive: str
    work: Path
    rounds: int
    requests: int
    figures: list = field(default_factory=list)

    def figure(self, name, value, unit, at_most=None):
        is_met = at_most is None or value <= at_most
        self.figures.append(
            {"name": name, "value": value, "unit": unit, "at_most": at_most, "is_met": is_met}
        )

    def lab(self, *arguments):
        command = [self.distrofs, "lab", *map(str, arguments)]
        return subprocess.check_output(command, text=True)


class Recording:
    """`distrofs lab record` of a mount, from its start to Ctrl-C."""

    def __init__(self, bench, mount, trace):
        trace.unlink(missing_ok=True)
        command = [bench.distrofs, "lab", "record", "--json", "-o", trace, mount.point]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while not trace.exists():
            time.sleep(0.005)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        return json.loads(self.process.communicate()[0])


def record(bench):
    index, trace = bench.work / "index", bench.work / "trace"
    took = {"plain": [], "recorded": []}
    records = 0
    for number in range(bench.rounds + 1):
        sides = list(took)
        random.Random(number).shuffle(sides)
        for side in sides:
            with Mount(bench, bench.archive, "--index", index) as mount:
                recording = Recording(bench, mount, trace) if side == "recorded" else None
                seconds, _ = mount.load("cat", 1)
                if recording:
                    told = recording.end()
                    records = told["records"]
                    if told["left_out"]:
                        raise SystemExit(f"{told['left_out']} records were left out")
            # The first makes the index.
            if number:
                took[side].append(seconds)
    plain, recorded = (statistics.median(took[side]) for side in took)
    pairs = [with_it / without for with_it, without in zip(took["recorded"], took["plain"])]
    bench.figure("cold read of everything", plain, "s")
    bench.figure("the same, recorded", recorded, "s")
    bench.figure("recording, of a cold read (median of pairs)", 100 * (statistics.median(pairs) - 1), "%", 3)
    bench.figure("bytes for each record", trace.stat().st_size / records, "")


def replay(bench):
    trace = bench.work / "synth"
    bench.lab("synth", "scan+zipf", "--requests", bench.requests, "--seed", 1, "-o", trace)
    for policy in POLICIES:
        began = time.monotonic()
        bench.lab("replay", trace, "--cache", "24M", "--policy", policy, "--json")
        took = time.monotonic() - began
        scale = 10_000_000 / bench.requests
        bench.figure(f"10,000,000 requests, {policy}", took * scale, "s", 10)
    began = time.monotonic()
    bench.lab("mrc", trace, "--json")
    bench.figure(f"miss-ratio curve of {bench.requests:,} requests", time.monotonic() - began, "s")


def agree(bench):
    index, trace = bench.work / "index", bench.work / "trace"
    with Mount(bench, bench.archive, "--index", index) as mount:
        recording = Recording(bench, mount, trace)
        mount.load("rand", 2000, 7, 65536)
        mount.load("cat", 2)
        recording.end()
    worst = 0
    for cache in ["4M", "8M", "24M", "64M"]:
        arguments = ["replay", trace, "--archive", bench.archive, "--cache", cache, "--json"]
        simulated = json.loads(bench.lab(*arguments))["results"][0]
        real = json.loads(bench.lab(*arguments, "--real"))["results"][0]
        worst = max(worst, abs(simulated["hit_ratio"] - real["hit_ratio"]))
    bench.figure("simulated and real hit ratio differ by", 100 * worst, "%", 1)


PARTS = {"record": record, "replay": replay, "agree": agree}


def main():
    parser = argparse.ArgumentParser()
    for name in ("distrofs", "fsload", "archive", "work"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=".")
    parser.add_argument("--json")
    args = parser.parse_args()
    requests = 1_000_000 if args.quick else 10_000_000
    bench = Bench(
        args.distrofs, args.fsload, args.archive, Path(args.work), args.rounds, requests
    )
    for part, measure in PARTS.items():
        if re.search(args.only, part):
            print(f"{part} …", file=sys.stderr, flush=True)
            measure(bench)
    for figure in bench.figures:
        bound = f"at most {figure['at_most']}" if figure["at_most"] is not None else ""
        missed = "" if figure["is_met"] else "  MISSED"
        value = f"{figure['value']:.3f}".rstrip("0").rstrip(".")
        print(f"{figure['name']:48} {value:>9} {figure['unit']:6} {bound}{missed}")
    print(", ".join(f"{key} {value}" for key, value in about(args.rounds).items()))
    if args.json:
        result = {"about": about(args.rounds), "figures": bench.figures}
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(figure["is_met"] for figure in bench.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
