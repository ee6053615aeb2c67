"""Measures tunings against the default; scripts/bench-tuning says what and how."""

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench_lib import Mount, about, drop_caches, lines, plot

DEFAULT = "default"

# Name, options of `distrofs index`, options of `distrofs mount`.
TUNINGS = [
    (DEFAULT, [], []),
    *((f"span-{size}", ["--span", size], []) for size in ("32K", "64K", "128K", "512K", "1M")),
    ("spin-0", [], ["--tune", "spin_us=0"]),
    ("threads-2", [], ["--tune", "threads=2"]),
    ("ahead-off", [], ["--tune", "ahead=off"]),
    ("readdirplus-always", [], ["--tune", "readdirplus=always"]),
    ("request-1M", [], ["--tune", "max_request=1M"]),
    ("request-128K", [], ["--tune", "max_request=128K"]),
    ("read-ahead-128K", [], ["--tune", "read_ahead_kib=128"]),
    ("memory-16M", [], ["--memory", "16M"]),
]

FIGURES = [
    ("index_s", "index"),
    ("index_bytes", "index size"),
    ("walk_s", "walk"),
    ("read_s", "read all"),
    ("read4_s", "read all by 4"),
    ("random_us", "random 4 KiB"),
    ("files_s", "small files, random order"),
    ("decoded", "decoded for each byte, read all"),
    ("decoded_random", "decoded for each byte, small files"),
    ("cpu_s", "processor time of the daemon, read all"),
]

SMALL_FILES = 2000


@dataclass
class Bench:
    distrofs: str
    fsload: str
    archive: str
    work: Path
    order: random.Random
    runs: dict = field(default_factory=dict)
    files: list = field(default_factory=list)

    def note(self, tuning, **figures):
        for name, value in figures.items():
            self.runs.setdefault(tuning, {}).setdefault(name, []).append(value)


def measure(bench, tuning, indexing, mounting, seed):
    index = bench.work / "index"
    index.unlink(missing_ok=True)
    drop_caches()
    began = time.monotonic()
    subprocess.check_call(
        [bench.distrofs, "index", "--index", index, *indexing, bench.archive],
        stdout=subprocess.DEVNULL,
    )
    bench.note(tuning, index_s=time.monotonic() - began, index_bytes=index.stat().st_size)
    options = ["--index", index, *indexing, *mounting]
    loads = [walk, read, read4, random_reads, small_files]
    bench.order.shuffle(loads)
    for load in loads:
        with Mount(bench, bench.archive, *options) as mount:
            load(bench, tuning, mount, seed)


def walk(bench, tuning, mount, _):
    bench.note(tuning, walk_s=mount.load("walk2")[0])


def read(bench, tuning, mount, _):
    took, _ = mount.load("cat", 1)
    counters = mount.stats()["counters"]
    decoded = counters["decoded_bytes"] / counters["served_bytes"]
    bench.note(tuning, read_s=took, decoded=decoded, cpu_s=cpu_seconds(mount.pid()))


def read4(bench, tuning, mount, _):
    bench.note(tuning, read4_s=mount.load("cat", 4)[0])


def random_reads(bench, tuning, mount, seed):
    bench.note(tuning, random_us=float(mount.load("rand", 1000, seed, 4096)[1]["mean_us"]))


def small_files(bench, tuning, mount, seed):
    """Whole small files in a random order, as a start reads them."""
    if not bench.files:
        # Named once, and all are metadata that nobody waits for later.
        found = subprocess.check_output(
            ["find", mount.point, "-xdev", "-type", "f", "-size", "-32k", "-printf", "%P\\0"]
        )
        bench.files = sorted(found.decode(errors="surrogateescape").split("\0")[:-1])
    chosen = random.Random(seed).sample(bench.files, min(SMALL_FILES, len(bench.files)))
    before = mount.stats()["counters"]
    began = time.monotonic()
    for name in chosen:
        (mount.point / name).read_bytes()
    took = time.monotonic() - began
    after = mount.stats()["counters"]
    grown = {name: after[name] - before[name] for name in ("decoded_bytes", "served_bytes")}
    decoded = grown["decoded_bytes"] / max(1, grown["served_bytes"])
    bench.note(tuning, files_s=took, decoded_random=decoded)


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def table(medians):
    titles = [title for name, title in FIGURES]
    lines = ["| tuning | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    base = medians[DEFAULT]
    units = {"s": "s", "us": "µs", "bytes": "bytes"}
    cells = []
    for name, _ in FIGURES:
        unit = units.get(name.rsplit("_", 1)[-1], "")
        value = base[name]
        cells.append(f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3f} {unit}".strip())
    lines.append(f"| {DEFAULT} | " + " | ".join(cells) + " |")
    for tuning, figures in medians.items():
        if tuning != DEFAULT:
            ratios = [f"{figures[name] / base[name]:.2f} x" for name, _ in FIGURES]
            lines.append(f"| {tuning} | " + " | ".join(ratios) + " |")
    return "\n".join(lines)


SPANS = {"span-32K": 32, "span-64K": 64, "span-128K": 128, DEFAULT: 256, "span-512K": 512, "span-1M": 1024}


def draw(args, facts, medians):
    """Spans: what reading costs against what the index takes."""
    archive_bytes = Path(args.archive).stat().st_size
    found = [(kib, medians[name]) for name, kib in SPANS.items() if name in medians]
    figures = ["random_us", "files_s", "read_s", "index_bytes"]
    titles = dict(FIGURES)
    base = medians[DEFAULT]
    series = {
        titles[name]: [(kib * 1024, values[name] / base[name]) for kib, values in found]
        for name in figures
    }
    x = {"title": "distance of checkpoints", "unit": "bytes", "scale": "log2"}
    y = {"title": "times that of 256 KiB", "unit": "ratio", "scale": "log2"}
    spans = lines("spans", "Smaller spans against the size of the index", x, y, series)
    share = [(100 * values["index_bytes"] / archive_bytes, values["random_us"]) for _, values in found]
    x = {"title": "index, of the archive", "unit": "percent", "scale": "log2"}
    y = {"title": "random 4 KiB", "unit": "micros"}
    curve = lines("index", "Random reads by what the index takes", x, y, {"spans": share})
    plot(args.distrofs, args.plot, "Tunings", facts, [spans, curve])


def main():
    parser = argparse.ArgumentParser()
    for name in ("distrofs", "fsload", "archive", "work"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=".")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 16))
    parser.add_argument("--json")
    parser.add_argument("--plot")
    args = parser.parse_args()
    order = random.Random(args.seed)
    bench = Bench(args.distrofs, args.fsload, args.archive, Path(args.work), order)
    chosen = [one for one in TUNINGS if one[0] == DEFAULT or re.search(args.only, one[0])]
    for number in range(args.rounds):
        order.shuffle(chosen)
        for tuning in chosen:
            print(f"Round {number + 1}: {tuning[0]}", file=sys.stderr, flush=True)
            measure(bench, *tuning, args.seed + number)
    names = [name for name, *_ in TUNINGS if name in bench.runs]
    medians = {
        name: {figure: statistics.median(values) for figure, values in bench.runs[name].items()}
        for name in names
    }
    facts = {**about(args.rounds), "archive": Path(args.archive).name, "seed": args.seed}
    print(table(medians))
    print()
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    if args.plot:
        draw(args, facts, medians)
    if args.json:
        result = {"about": facts, "medians": medians, "runs": bench.runs}
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
