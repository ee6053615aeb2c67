"""Measures systems that make a tree of an archive; scripts/bench-peers says how."""

import argparse
import contextlib
import json
import os
import platform
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench_lib import bars, plot

LIMIT_SECONDS = 60
RANDOM_READS = 1000
work = None
BASE = "exploded"

# What is measured: key, title, unit, and whether it is compared with the base.
MEASURES = [
    ("ready", "ready", "s", True),
    ("remount", "mount again", "s", False),
    ("walk_cold", "walk, cold", "s", True),
    ("walk_warm", "walk, warm", "s", True),
    ("read_cold", "read all, cold", "s", True),
    ("read_warm", "read all, warm", "s", True),
    ("random", "random 4 KiB, cold", "us", True),
    ("python", "start Python with numpy and Django, cold", "s", True),
    ("disk", "disk beside the archive", "MB", False),
    ("memory", "memory of what serves", "MiB", False),
]


class Failed(Exception):
    """What was measured did not come to its end."""


class TooLong(Failed):
    """It would not come to its end the next time either."""


def run(command, limit=LIMIT_SECONDS):
    """Runs a command to its end, and tells how long that took and what it said."""
    began = time.monotonic()
    started = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        stdout, stderr = started.communicate(timeout=limit)
    except subprocess.TimeoutExpired as error:
        started.kill()
        # One that waits for a daemon that hangs does not die of that.
        end_daemons(work)
        started.communicate()
        raise TooLong(f"longer than {limit} s") from error
    took = time.monotonic() - began
    if started.returncode != 0:
        last = (stderr.strip() or stdout.strip() or "no message").splitlines()[-1]
        raise Failed(f"{Path(str(command[0])).name}: {last}")
    return took, stdout


def end_daemons(below):
    """Ends what serves mounts below a directory: the connection breaks with it."""
    prefix = os.fsencode(f"{below}/mnt/")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if any(word.startswith(prefix) for word in words):
                    os.kill(int(entry.name), signal.SIGKILL)


def cold():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def used_mb(path):
    """What a directory takes on its disk, in MB."""
    return int(run(["du", "-s", "--block-size=1", path])[1].split()[0]) / 1e6


def peak_mib(pids):
    """The most that processes had resident, together."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            total += int(found[1]) if found else 0
    return total / 1024


class System:
    """Something that makes a tree of an archive. `make` is once in a round."""

    name = ""

    def __init__(self, bench):
        self.bench = bench
        self.made = bench.work / self.name
        self.point = bench.work / "mnt" / self.name
        self.process = None

    def make(self):
        """Makes what is mounted."""

    def mount(self):
        """Mounts it."""

    def unmount(self):
        """Takes the mount away."""
        for _ in range(50):
            if subprocess.run(["umount", str(self.point)], capture_output=True).returncode == 0:
                break
            if not os.path.ismount(self.point):
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "--lazy", str(self.point)], capture_output=True)
        for pid in self.pids():
            for _ in range(100):
                if not Path(f"/proc/{pid}").exists():
                    break
                time.sleep(0.05)

    def root(self):
        return self.point

    def pids(self):
        """The processes that serve: those whose command line names the mount point."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes().split(b"\0")
                    if os.fsencode(self.point) in line:
                        found.append(int(entry.name))
        return found


class Exploded(System):
    name = "exploded"

    def make(self):
        run(["tar", "-xpzf", self.bench.archive, "--numeric-owner", "-C", self.made], 600)

    def unmount(self):
        pass

    def root(self):
        return self.made


class Squashfs(System):
    name = "squashfs"
    image = "image.sqsh"

    def make(self):
        command = f"gzip -dc '{self.bench.archive}' | sqfstar -quiet -no-progress '{self.file()}'"
        run(["bash", "-o", "pipefail", "-c", command], 1200)

    def file(self):
        return self.made / self.image

    def mount(self):
        run(["mount", "-t", "squashfs", "-o", "loop,ro", self.file(), self.point])


class Squashfuse(Squashfs):
    name = "squashfuse"

    def mount(self):
        run(["squashfuse_ll", "-o", "allow_other", self.file(), self.point])


class Erofs(System):
    name = "erofs"

    def file(self):
        return self.made / "image.erofs"

    def make(self):
        tree = self.made / "tree"
        tree.mkdir()
        run(["tar", "-xpzf", self.bench.archive, "--numeric-owner", "-C", tree], 600)
        run(["mkfs.erofs", "--quiet", "-zlz4", self.file(), tree], 600)
        shutil.rmtree(tree)

    def mount(self):
        run(["mount", "-t", "erofs", "-o", "loop,ro", self.file(), self.point])


class Ratarmount(System):
    name = "ratarmount"

    def mount(self):
        index = self.made / "index.sqlite"
        run(
            [self.bench.ratarmount, "-P", "2", "-o", "allow_other", "--index-file", index]
            + [self.bench.archive, self.point],
            600,
        )


class Archivemount(System):
    name = "archivemount"

    def mount(self):
        # With more than one thread it hangs.
        options = ["-s", "-o", "readonly,allow_other"]
        run(["archivemount", *options, self.bench.archive, self.point])


class FuseOverlayfs(System):
    name = "fuse-overlayfs"

    def make(self):
        lower = self.made / "lower"
        lower.mkdir()
        run(["tar", "-xpzf", self.bench.archive, "--numeric-owner", "-C", lower], 600)

    def mount(self):
        run(["fuse-overlayfs", "-o", f"lowerdir={self.made / 'lower'}", self.point])


class Distrofs(System):
    name = "distrofs"

    def mount(self):
        index = self.made / "index"
        run(
            [self.bench.distrofs, "mount", "--owner", "keep", "--i-know", "--devices"]
            + ["--index", index, self.bench.archive, self.point],
            600,
        )


SYSTEMS = [
    Exploded,
    Squashfs,
    Erofs,
    Squashfuse,
    Ratarmount,
    Archivemount,
    FuseOverlayfs,
    Distrofs,
]


class Bench:
    def __init__(self, options):
        self.work = Path(options.work)
        self.archive = options.archive
        self.distrofs = options.distrofs
        self.ratarmount = options.ratarmount
        self.fsload = options.fsload
        self.rounds = options.rounds
        self.random = random.Random(options.seed)
        self.seed = options.seed
        (self.work / "mnt").mkdir()
        wanted = re.compile(options.only)
        self.systems = [kind(self) for kind in SYSTEMS if wanted.search(kind.name)]
        self.runs = {system.name: {} for system in self.systems}
        self.left_out = {}
        self.too_long = set()

    def note(self, system, key, value):
        self.runs[system.name].setdefault(key, []).append(value)

    def load(self, system, *arguments):
        took, said = run([self.fsload, arguments[0], system.root(), *arguments[1:]])
        return took, dict(re.findall(r"(\w+)=([\d.]+)", said))

    def measured(self, system, key, measure):
        """Measures, unless that took too long before; failures are told at the end."""
        if (system.name, key) in self.too_long:
            return None
        try:
            return measure()
        except (Failed, OSError) as error:
            if isinstance(error, TooLong):
                self.too_long.add((system.name, key))
            self.left_out[system.name, key] = str(error)
            print(f"  {system.name}: {key}: {error}", file=sys.stderr)
            return None

    def round(self, number):
        order = list(self.systems)
        self.random.shuffle(order)
        for system in order:
            print(f"Round {number}: {system.name}", file=sys.stderr)
            shutil.rmtree(system.made, ignore_errors=True)
            system.made.mkdir()
            system.point.mkdir(exist_ok=True)
            try:
                if self.measured(system, "ready", lambda s=system: self.ready(s)):
                    self.loads(system, number)
            finally:
                system.unmount()
                shutil.rmtree(system.made, ignore_errors=True)

    def ready(self, system):
        cold()
        began = time.monotonic()
        system.make()
        system.mount()
        os.listdir(system.root())
        self.note(system, "ready", time.monotonic() - began)
        os.sync()
        self.note(system, "disk", used_mb(system.made))
        if system.root() != system.made:
            self.memory(system)
            system.unmount()
            cold()
            began = time.monotonic()
            system.mount()
            os.listdir(system.root())
            self.note(system, "remount", time.monotonic() - began)
        return True

    def memory(self, system):
        pids = system.pids()
        if pids:
            self.note(system, "memory", peak_mib(pids))

    def fresh(self, system):
        if system.root() != system.made:
            self.memory(system)
            system.unmount()
        cold()
        if system.root() != system.made:
            system.mount()

    def loads(self, system, number):
        loads = [self.walk, self.read, self.random_reads, self.python]
        self.random.shuffle(loads)
        for load in loads:
            load(system, number)
        if system.root() != system.made:
            self.memory(system)

    def walk(self, system, _):
        def measure():
            self.fresh(system)
            self.note(system, "walk_cold", self.load(system, "walk2")[0])
            self.note(system, "walk_warm", self.load(system, "walk2")[0])

        self.measured(system, "walk_cold", measure)

    def read(self, system, _):
        def measure():
            self.fresh(system)
            self.note(system, "read_cold", self.load(system, "cat")[0])
            self.note(system, "read_warm", self.load(system, "cat")[0])

        self.measured(system, "read_cold", measure)

    def random_reads(self, system, number):
        def measure():
            self.fresh(system)
            said = self.load(system, "rand", str(RANDOM_READS), str(self.seed + number), "4096")[1]
            self.note(system, "random", float(said["mean_us"]))

        self.measured(system, "random", measure)

    def python(self, system, _):
        program = "import numpy, django"
        command = ["env", "PYTHONDONTWRITEBYTECODE=1", "chroot", system.root(), "/usr/bin/python3"]

        def measure():
            self.fresh(system)
            if not (Path(system.root()) / "usr/lib/python3/dist-packages/numpy").exists():
                raise Failed("not in this image")
            self.note(system, "python", run(command + ["-c", program])[0])

        self.measured(system, "python", measure)

    def result(self):
        systems = {}
        for system in self.systems:
            runs = self.runs[system.name]
            systems[system.name] = {
                "median": {key: statistics.median(values) for key, values in runs.items()},
                "runs": runs,
                "left_out": {key: why for (name, key), why in self.left_out.items() if name == system.name},
            }
        return systems


def ratio(systems, name, key):
    """How a system compares with the exploded tree, if both were measured."""
    base = systems.get(BASE, {}).get("median", {}).get(key)
    value = systems[name]["median"].get(key)
    return value / base if base and value is not None else None


def cell(systems, name, key, unit, compared):
    value = systems[name]["median"].get(key)
    if value is None:
        return "-"
    digits = 3 if unit == "s" and value < 1 else 2 if unit == "s" else 0
    text = f"{value:.{digits}f}"
    times = ratio(systems, name, key) if compared else None
    return f"{text} ({times:.2f} x)" if times is not None and name != BASE else text


def table(systems):
    """A Markdown table, a line for each measure."""
    names = list(systems)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for key, title, unit, compared in MEASURES:
        cells = [cell(systems, name, key, unit, compared) for name in names]
        if any(text != "-" for text in cells):
            shown = {"us": "µs"}.get(unit, unit)
            lines.append(f"| {title}, {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(options, about, systems):
    """Ratios to the exploded tree, a group of bars for each load."""
    compared = [(key, title) for key, title, _, is_compared in MEASURES if is_compared]
    compared = [
        (key, title)
        for key, title in compared
        if any(ratio(systems, name, key) for name in systems)
    ]
    series = {
        name: [ratio(systems, name, key) for key, _ in compared]
        for name in systems
        if name != BASE
    }
    axis = {"title": "times the exploded tree, less is better", "unit": "ratio", "scale": "log2"}
    chart = bars("peers", "Compared with the exploded tree", axis, [t for _, t in compared], series)
    plot(options.distrofs, options.plot, "distrofs and its peers", about, [chart])


def facts(options):
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": os.environ.get("DISTROFS_BENCH_COMMIT", "unknown"),
        "archive": Path(options.archive).name,
        "archive_bytes": os.path.getsize(options.archive),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "seed": options.seed,
    }


def main():
    parser = argparse.ArgumentParser()
    for name in ["distrofs", "fsload", "ratarmount", "archive", "work"]:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=".")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 16))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--plot")
    parser.add_argument("named", nargs="?")
    options = parser.parse_args()
    global work
    work = options.work
    bench = Bench(options)
    for number in range(1, options.rounds + 1):
        bench.round(number)
    systems = bench.result()
    about = facts(options)
    print(table(systems))
    print()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    for (name, key), why in sorted(bench.left_out.items()):
        print(f"left out: {name} {key}: {why}")
    if options.plot:
        draw(options, about, systems)
    result = {"about": about, "systems": systems}
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
