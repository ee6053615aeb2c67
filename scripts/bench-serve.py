"""Measures `distrofs serve`; scripts/bench-serve says what and how."""

import argparse
import contextlib
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

from bench_lib import HOME, MIB, Service, Views, drop_caches, fsload, make_variant, make_wide

LIMIT_BYTES = 64 * MIB
READERS = 8
VIEWS = 100
IMAGES = 20

# --- Parts --------------------------------------------------------------------


def prepare_images(bench, service):
    """Has 20 images there, as their uploads; their names."""
    wide = bench.work / "wide.tgz"
    if not wide.exists():
        make_wide(wide, bench.entries)
    sources = {"large": bench.large, "wide": wide}
    for number in range(IMAGES - 2):
        variant = bench.work / f"variant-{number}.tgz"
        if not variant.exists():
            make_variant(variant, bench.small, number)
        sources[f"image-{number:02}"] = variant
    service.distros.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        part, place = service.upload(source, f"{name}.tgz")
        part.rename(place)
    return list(sources)


def measure_load_and_idle(bench):
    limited = Service(bench.distrofs, bench.work / "load", LIMIT_BYTES)
    images = prepare_images(bench, limited)
    throughput = {"limited": [], "unlimited": []}
    unlimited = Service(bench.distrofs, limited.path, None, memory="1G")
    for number in range(bench.rounds):
        for side, service in (("limited", limited), ("unlimited", unlimited)):
            (service.path / "log").unlink(missing_ok=True)
            with service:
                if service is limited and bench.wants("idle") and number == 0:
                    measure_idle(bench, service)
                if not bench.wants("load"):
                    continue
                with Views(bench, service, images, VIEWS) as views:
                    drop_caches()
                    size, seconds = views.read_everything(READERS)
                throughput[side].append(size / seconds / MIB)
                print(f"  {side}: {size / MIB:.0f} MiB in {seconds:.1f} s", flush=True)
                if service is limited:
                    bench.figure("killed for memory, 64 MiB", service.killed(), "", at_most=0)
                    bench.figure("workers started again", service.status()["restarts"], "", at_most=0)
                    bench.figure("peak of the storage container", service.peak_bytes() / MIB, "MiB")
    if bench.wants("load"):
        ours, free = (statistics.median(throughput[side]) for side in ("limited", "unlimited"))
        bench.figure("read by 8 readers, 64 MiB", ours, "MiB/s")
        bench.figure("read by 8 readers, without a limit", free, "MiB/s")
        bench.figure("throughput in 64 MiB to that without a limit", ours / free, "x", at_least=0.7)
    shutil.rmtree(limited.path)


def measure_idle(bench, service):
    time.sleep(75)
    resident = service.resident_bytes() / MIB
    bench.figure("resident, idle, 20 images just mounted", resident, "MiB", at_most=16)
    for name in ("image-00", "image-01", "large"):
        fsload(bench, "cat", service.distros / name)
    time.sleep(75)
    resident = service.resident_bytes() / MIB
    bench.figure("resident, idle after reading", resident, "MiB", at_most=16)


def measure_ingest(bench):
    service = Service(bench.distrofs, bench.work / "ingest", LIMIT_BYTES)
    service.distros.mkdir(parents=True)
    part, place = service.upload(bench.small, "other.tgz")
    part.rename(place)
    ratios, slower = [], []
    with service:
        other = service.distros / "other"
        for number in range(bench.rounds):
            tree = bench.work / "tree"
            tree.mkdir()
            drop_caches()
            began = time.monotonic()
            subprocess.check_call(["tar", "-xpzf", bench.large, "--numeric-owner", "-C", tree])
            tar = time.monotonic() - began
            shutil.rmtree(tree)
            name = f"large-{number}"
            source = bench.work / "large.tgz"
            make_variant(source, bench.large, number)
            part, place = service.upload(source, f"{name}.tgz")
            time.sleep(2)
            drop_caches()
            began = time.monotonic()
            part.rename(place)
            there = service.distros / name / "variant"
            service.wait_for(there.exists, 600, f"{name} to be served")
            ours = time.monotonic() - began
            ratios.append(ours / tar)
            print(f"  ingest {ours:.2f} s, tar {tar:.2f} s: {ours / tar:.2f}", flush=True)
            # Others meanwhile: random reads of an image that nobody has read yet.
            alone = read_random(bench, other, lambda: True)
            make_variant(source, bench.large, 1000 + number)
            part, place = service.upload(source, f"busy-{number}.tgz")
            time.sleep(2)
            part.rename(place)
            busy_there = service.distros / f"busy-{number}" / "variant"
            meanwhile = read_random(bench, other, lambda: not busy_there.exists())
            service.wait_for(busy_there.exists, 600, "an ingest")
            slower.append(meanwhile / alone)
            print(f"  random read p50 {alone:.0f} us, meanwhile {meanwhile:.0f} us", flush=True)
            for name in (name, f"busy-{number}"):
                command = [bench.distrofs, "image", "rm", f"{HOME}/{name}", "--run", service.path / "run"]
                subprocess.check_call(command, stdout=subprocess.DEVNULL)
        bench.figure("killed for memory while indexing", service.killed(), "", at_most=0)
    bench.figure("ingest to tar -xzf", statistics.median(ratios), "x", at_most=0.4)
    bench.figure("reads of others meanwhile, to alone", statistics.median(slower), "x", at_most=2)
    shutil.rmtree(service.path)


def read_random(bench, directory, goes_on):
    """The median of random reads, cold, of up to three runs while that is wanted."""
    found = []
    for number in range(3):
        Path("/proc/sys/vm/drop_caches").write_text("1")
        result = fsload(bench, "rand", directory, 300, number + 1, 4096)
        if number and not goes_on():
            break
        found.append(float(result["p50_us"]))
    return statistics.median(found)


def measure_uploads(bench):
    service = Service(bench.distrofs, bench.work / "uploads", LIMIT_BYTES)
    service.distros.mkdir(parents=True)
    with service:
        parts = []
        bad = {
            "garbage": os.urandom(300_000),
            "text": b"no archive at all\n" * 1000,
            "xz": b"\xfd7zXZ\0" + os.urandom(5000),
            "cut": Path(bench.small).read_bytes()[:1_000_000],
            "zeros": bytes(100_000),
        }
        for name, content in bad.items():
            source = bench.work / "bad"
            source.write_bytes(content)
            parts.append((name, service.upload(source, f"{name}.tgz")))
        source = bench.work / "variant.tgz"
        for number in range(50 - len(bad)):
            make_variant(source, bench.small, 5000 + number)
            parts.append((f"up-{number:02}", service.upload(source, f"up-{number:02}.tgz")))
        began = time.monotonic()
        for _, (part, place) in parts:
            part.rename(place)

        def is_answered(name):
            with contextlib.suppress(OSError):
                text = (service.distros / f"{name}.status").read_text()
                if name in bad:
                    return re.search("^(refused|incomplete|waiting: .*: )", text, re.M)
                return (service.distros / name / "variant").exists()
            return False

        for name, _ in parts:
            service.wait_for(lambda: is_answered(name), 900, f"an answer to {name}")
        bench.figure("50 uploads at once, until all are answered", time.monotonic() - began, "s")
        bench.figure("killed for memory, 50 uploads", service.killed(), "", at_most=0)
        bench.figure("peak of the storage container, 50 uploads", service.peak_bytes() / MIB, "MiB")
    shutil.rmtree(service.path)


# --- All of them --------------------------------------------------------------


@dataclass
class Bench:
    distrofs: str
    fsload: str
    small: str
    large: str
    work: Path
    rounds: int
    only: str
    entries: int
    figures: list = field(default_factory=list)

    def wants(self, part):
        return re.search(self.only, part)

    def figure(self, name, value, unit, at_most=None, at_least=None):
        is_met = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
        self.figures = [figure for figure in self.figures if figure["name"] != name]
        self.figures.append(
            {"name": name, "value": value, "unit": unit, "at_most": at_most,
             "at_least": at_least, "is_met": is_met}
        )


def main():
    parser = argparse.ArgumentParser()
    for name in ("distrofs", "fsload", "small", "large", "work"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=".")
    parser.add_argument("--json")
    args = parser.parse_args()
    bench = Bench(
        args.distrofs, args.fsload, args.small, args.small if args.quick else args.large,
        Path(args.work), args.rounds, args.only, 50_000 if args.quick else 1_000_000,
    )
    if bench.wants("load") or bench.wants("idle"):
        print("load and idle", flush=True)
        measure_load_and_idle(bench)
    if bench.wants("ingest"):
        print("ingest", flush=True)
        measure_ingest(bench)
    if bench.wants("uploads"):
        print("uploads", flush=True)
        measure_uploads(bench)
    print()
    for figure in bench.figures:
        bound = ""
        if figure["at_most"] is not None:
            bound = f"at most {figure['at_most']}"
        if figure["at_least"] is not None:
            bound = f"at least {figure['at_least']}"
        missed = "" if figure["is_met"] else "  MISSED"
        value = f"{figure['value']:.2f}".rstrip("0").rstrip(".")
        print(f"{figure['name']:48} {value:>9} {figure['unit']:6} {bound}{missed}")
    if args.json:
        Path(args.json).write_text(json.dumps(bench.figures, indent=2) + "\n")
    return 0 if all(figure["is_met"] for figure in bench.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
