"""Measures what grows with what; scripts/bench-scale says what and how."""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench_lib import (
    HOME,
    MIB,
    Mount,
    Service,
    about,
    drop_caches,
    lines,
    make_variant,
    make_wide,
    memory_mib,
    plot,
)

STEPS = {
    "views": [1, 3, 10, 30, 100, 300, 1000],
    "images": [1, 5, 20, 50, 100, 200],
    "entries": [10_000, 30_000, 100_000, 300_000, 1_000_000],
    "readers": [1, 2, 4, 8, 16, 32, 64],
    "budget": [8, 16, 32, 64, 128, 256],
}
QUICK = {
    "views": [1, 10, 100],
    "images": [1, 10],
    "entries": [10_000, 30_000],
    "readers": [1, 4, 16],
    "budget": [8, 64],
}


@dataclass
class Bench:
    distrofs: str
    fsload: str
    small: str
    large: str
    work: Path
    rounds: int
    steps: dict
    # part -> step -> name of a figure -> its values
    runs: dict = field(default_factory=dict)

    def note(self, part, step, **figures):
        for name, value in figures.items():
            self.runs.setdefault(part, {}).setdefault(step, {}).setdefault(name, []).append(value)


# --- Views --------------------------------------------------------------------


def views(bench):
    service = Service(bench.distrofs, bench.work / "views", None)
    service.distros.mkdir(parents=True)
    part, place = service.upload(bench.small, "image.tgz")
    part.rename(place)
    at = service.path / "at"
    with service:
        service.wait_for((service.distros / "image").is_dir, 300, "the image")
        attached = 0
        holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", "mount --make-rprivate / && echo ready && read end"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        holder.stdout.readline()
        inside = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
        try:
            for count in bench.steps["views"]:
                while attached < count:
                    uid = 30100 + attached
                    (at / str(uid)).mkdir(parents=True)
                    command = [*inside, bench.distrofs, "attach", str(uid), "--image", f"{HOME}/image"]
                    command += ["--at", at / str(uid), "--run", service.path / "run"]
                    began = time.monotonic()
                    subprocess.check_call([str(word) for word in command])
                    took = time.monotonic() - began
                    attached += 1
                    # The last ones before a step are what it costs there.
                    if count - attached < 5:
                        bench.note("views", count, attach_ms=took * 1000)
                last = at / str(30100 + attached - 1)
                for _ in range(bench.rounds):
                    began = time.monotonic()
                    subprocess.check_output([*inside, "cat", last / "etc/debian_version"])
                    bench.note("views", count, read_ms=(time.monotonic() - began) * 1000)
                (worker,) = service.workers()
                bench.note(
                    "views",
                    count,
                    worker_mib=memory_mib(worker),
                    worker_own_mib=memory_mib(worker, "RssAnon"),
                    supervisor_mib=memory_mib(service.process.pid),
                )
        finally:
            holder.stdin.close()
            holder.wait(120)


# --- Images -------------------------------------------------------------------


def images(bench):
    service = Service(bench.distrofs, bench.work / "images", None)
    service.distros.mkdir(parents=True)
    there = 0
    for count in bench.steps["images"]:
        new = count - there
        for number in range(there, count):
            place = service.distros / f"i{number}.tgz"
            make_variant(place, bench.small, number)
            os.chown(place, HOME, HOME)
        there = count
        os.sync()
        began = time.monotonic()
        with service:
            bench.note("images", count, add_ms_each=(time.monotonic() - began) * 1000 / new)
        (service.path / "log").unlink()
        for _ in range(bench.rounds):
            drop_caches()
            began = time.monotonic()
            with service:
                took = (time.monotonic() - began) * 1000
                (worker,) = service.workers()
                last = service.distros / f"i{count - 1}"
                began = time.monotonic()
                (last / "variant").read_bytes()
                bench.note(
                    "images",
                    count,
                    start_ms_each=took / count,
                    first_read_ms=(time.monotonic() - began) * 1000,
                    worker_mib=memory_mib(worker),
                    worker_own_mib=memory_mib(worker, "RssAnon"),
                )
            (service.path / "log").unlink()
    shutil.rmtree(service.path)


# --- Entries ------------------------------------------------------------------


def entries(bench):
    for count in bench.steps["entries"]:
        archive = bench.work / "wide.tgz"
        make_wide(archive, count)
        index = bench.work / "wide.index"
        for _ in range(bench.rounds):
            index.unlink(missing_ok=True)
            drop_caches()
            began = time.monotonic()
            subprocess.check_call(
                [bench.distrofs, "index", "--index", index, archive], stdout=subprocess.DEVNULL
            )
            bench.note(
                "entries",
                count,
                index_us_each=(time.monotonic() - began) * 1e6 / count,
                index_bytes_each=index.stat().st_size / count,
            )
            with Mount(bench, archive, "--index", index) as mount:
                names = [f"d{n % (count // 1000):06}/f{n * 7 % 999:06}" for n in range(200)]
                began = time.monotonic()
                for name in names:
                    os.lstat(mount.point / name)
                lookup = (time.monotonic() - began) * 1e6 / len(names)
                took, _ = mount.load("walk2")
                bench.note(
                    "entries",
                    count,
                    lookup_us=lookup,
                    walk_us_each=took * 1e6 / count,
                    resident_mib=mount.peak_mib(),
                    own_mib=memory_mib(mount.pid(), "RssAnon"),
                )
        archive.unlink()
        index.unlink()


# --- Readers ------------------------------------------------------------------


def readers(bench):
    index = bench.work / "large.index"
    subprocess.check_call(
        [bench.distrofs, "index", "--index", index, bench.large], stdout=subprocess.DEVNULL
    )
    for count in bench.steps["readers"]:
        for number in range(bench.rounds):
            with Mount(bench, bench.large, "--index", index) as mount:
                took, said = mount.load("cat", count)
                stats = mount.stats()["counters"]
                bench.note(
                    "readers",
                    count,
                    mib_per_second=int(said["bytes"]) / MIB / took,
                    decoded_per_byte=stats["decoded_bytes"] / stats["served_bytes"],
                    resident_mib=mount.peak_mib(),
                    own_mib=memory_mib(mount.pid(), "RssAnon"),
                )
            with Mount(bench, bench.large, "--index", index) as mount:
                command = [bench.fsload, "rand", mount.point]
                running = [
                    subprocess.Popen(
                        [*command, str(max(20, 400 // count)), str(number * 100 + reader), "4096"],
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                    for reader in range(count)
                ]
                said = [process.communicate()[0] for process in running]
                p50 = [float(re.search(r"p50_us=([\d.]+)", text)[1]) for text in said]
                bench.note("readers", count, random_p50_us=statistics.median(p50))


# --- Budget -------------------------------------------------------------------


def budget(bench):
    index = bench.work / "large.index"
    subprocess.check_call(
        [bench.distrofs, "index", "--index", index, bench.large], stdout=subprocess.DEVNULL
    )
    for mib in bench.steps["budget"]:
        for number in range(bench.rounds):
            options = ["--index", index, "--memory", f"{mib}M"]
            with Mount(bench, bench.large, *options) as mount:
                took, said = mount.load("cat", 4)
                stats = mount.stats()["counters"]
                bench.note(
                    "budget",
                    mib,
                    mib_per_second=int(said["bytes"]) / MIB / took,
                    decoded_per_byte=stats["decoded_bytes"] / stats["served_bytes"],
                    resident_mib=mount.peak_mib(),
                    own_mib=memory_mib(mount.pid(), "RssAnon"),
                )
            with Mount(bench, bench.large, *options) as mount:
                _, said = mount.load("rand", 500, number + 1, 4096)
                bench.note("budget", mib, random_p50_us=float(said["p50_us"]))


PARTS = {"views": views, "images": images, "entries": entries, "readers": readers, "budget": budget}


# --- What is said -------------------------------------------------------------


def medians(runs):
    return {
        step: {name: statistics.median(values) for name, values in figures.items()}
        for step, figures in runs.items()
    }


def table(part, found):
    names = list(dict.fromkeys(name for figures in found.values() for name in figures))
    lines = [f"{part:>10} " + " ".join(f"{name:>20}" for name in names)]
    for step, figures in found.items():
        cells = [f"{figures[name]:20.3f}" if name in figures else " " * 20 for name in names]
        lines.append(f"{step:>10} " + " ".join(cells))
    lines.append(f"{'grows by':>10} " + " ".join(f"{growth(found, name):>20}" for name in names))
    return "\n".join(lines)


def draw(args, bench):
    """A chart for each part: how each figure grows, from 1 where it begins."""
    directory = Path(args.plots)
    directory.mkdir(parents=True, exist_ok=True)
    charts = []
    for part, runs in bench.runs.items():
        found = medians(runs)
        names = list(dict.fromkeys(name for figures in found.values() for name in figures))
        series = {}
        for name in names:
            steps = [(step, figures[name]) for step, figures in found.items() if name in figures]
            if steps and steps[0][1] > 0:
                series[name] = [(step, value / steps[0][1]) for step, value in steps]
        x = {"title": f"{part}, MiB" if part == "budget" else part, "scale": "log10"}
        y = {"title": "times the first step", "unit": "ratio", "scale": "log2"}
        chart = lines(part, f"What grows with {part}", x, y, series)
        charts.append(chart)
        plot(bench.distrofs, directory / f"{part}.svg", part, about(args.rounds), [chart])
    plot(bench.distrofs, directory / "scale.html", "What grows", about(args.rounds), charts)


def growth(found, name):
    """How much a figure grew from the first step to the last."""
    values = [figures[name] for figures in found.values() if name in figures]
    return f"{values[-1] / values[0]:.2f} x" if len(values) > 1 and values[0] else ""


def main():
    parser = argparse.ArgumentParser()
    for name in ("distrofs", "fsload", "small", "large", "work"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=".")
    parser.add_argument("--json")
    parser.add_argument("--plots")
    args = parser.parse_args()
    steps = QUICK if args.quick else STEPS
    large = args.small if args.quick else args.large
    bench = Bench(
        args.distrofs, args.fsload, args.small, large, Path(args.work), args.rounds, steps
    )
    for part, measure in PARTS.items():
        if re.search(args.only, part):
            print(f"{part} …", file=sys.stderr, flush=True)
            measure(bench)
            print(table(part, medians(bench.runs[part])) + "\n", flush=True)
    if args.plots:
        draw(args, bench)
    result = {
        "about": about(args.rounds),
        "medians": {part: medians(runs) for part, runs in bench.runs.items()},
        "runs": bench.runs,
    }
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
