"""Measures `distrofs serve`; scripts/bench-serve says what and how."""

import argparse
import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

HOME = 30000
MIB = 1 << 20
LIMIT_BYTES = 64 * MIB
READERS = 8
VIEWS = 100
IMAGES = 20
GROUPS = Path("/sys/fs/cgroup")


# --- Archives -----------------------------------------------------------------


def header(name, size, kind=b"0", mode=0o644):
    """A tar header."""
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:108] = b"%07o\0" % mode
    block[108:124] = b"0000000\0" * 2
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % 1_700_000_000
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def make_wide(path, entries):
    """An archive of so many entries, 1,000 in a directory, one in ten with content."""
    with gzip.open(path, "wb", compresslevel=1) as out:
        for directory in range(entries // 1000):
            out.write(header(b"d%06d/" % directory, 0, b"5", 0o755))
            parts = []
            for number in range(999):
                name = b"d%06d/f%06d" % (directory, number)
                content = (b"%d " % number) * 50 if number % 10 == 0 else b""
                parts.append(header(name, len(content)))
                parts.append(content + b"\0" * (-len(content) % 512))
            out.write(b"".join(parts))
        out.write(b"\0" * 1024)


def make_variant(path, image, number):
    """The same image with a file more before all others: another archive."""
    content = b"variant %d\n" % number
    entry = header(b"variant", len(content)) + content + b"\0" * (-len(content) % 512)
    with open(path, "wb") as out, open(image, "rb") as rest:
        out.write(gzip.compress(entry, 1))
        shutil.copyfileobj(rest, out, 1 << 20)


# --- The service --------------------------------------------------------------


@dataclass
class Service:
    """`distrofs serve` in a directory; its storage container has `limit` bytes."""

    program: str
    path: Path
    limit: int | None
    memory: str = "48M"
    process: subprocess.Popen | None = None
    group: Path | None = None
    settings: list = field(default_factory=list)

    @property
    def distros(self):
        return self.path / "containers" / str(HOME) / "distros"

    def __enter__(self):
        self.distros.mkdir(parents=True, exist_ok=True)
        for path in (self.distros.parent, self.distros):
            os.chown(path, HOME, HOME)
        if self.limit:
            self.make_group()
        settings = [
            f"homes={self.path}/containers",
            f"run={self.path}/run",
            f"memory={self.memory}",
            "listen=",
            *self.settings,
        ]
        if self.group:
            settings.append(f"cgroups=['{self.group}']")
        command = [self.program, "serve"]
        for setting in settings:
            command += ["--set", setting]
        self.log = open(self.path / "log", "ab")
        self.process = subprocess.Popen(command, stderr=self.log)
        self.wait_for(lambda: "all images are served" in self.said(), 900, "all images")
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
            self.process.kill()
            self.process.wait()
        until = time.monotonic() + 20
        while self.workers() and time.monotonic() < until:
            time.sleep(0.05)
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)
        self.log.close()
        if self.group:
            for group in (self.group / "distrofs", self.group):
                for _ in range(100):
                    with contextlib.suppress(OSError):
                        group.rmdir()
                        break
                    time.sleep(0.05)

    def make_group(self):
        v1 = GROUPS / "memory"
        base = v1 if (v1 / "memory.limit_in_bytes").exists() else GROUPS
        self.group = base / f"distrofs-test-bench-{os.getpid()}"
        self.group.mkdir(exist_ok=True)
        name = "memory.limit_in_bytes" if base == v1 else "memory.max"
        (self.group / name).write_text(str(self.limit))

    def killed(self):
        """How often somebody was killed for memory, in the whole group. Version 1 counts
        where it happens."""
        killed = 0
        for group in (self.group, self.group / "distrofs"):
            for name in ("memory.oom_control", "memory.events"):
                file = group / name
                if file.exists():
                    killed += int(re.search(r"oom_kill (\d+)", file.read_text()).group(1))
        return killed

    def peak_bytes(self):
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            file = self.group / name
            if file.exists():
                return int(file.read_text())
        return 0

    def said(self):
        return (self.path / "log").read_text(errors="replace")

    def wait_for(self, is_so, seconds, what):
        until = time.monotonic() + seconds
        while not is_so():
            if self.process.poll() is not None:
                raise SystemExit(f"the service ended:\n{self.said()}")
            if time.monotonic() > until:
                raise TimeoutError(f"waited {seconds} s in vain for {what}")
            time.sleep(0.005)

    def workers(self):
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().split(b"\0")
                if line[1:3] == [b"worker", os.fsencode(self.distros.parent)]:
                    found.append(int(entry.name))
        return found

    def resident_bytes(self):
        (pid,) = self.workers()
        status = Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024

    def status(self):
        command = [self.program, "status", "--json", "--run", self.path / "run"]
        return json.loads(subprocess.check_output(command))[0]

    def upload(self, source, name):
        """As an owner would: whole, by renaming, and on the disk already."""
        part = self.distros / f"{name}.part"
        shutil.copyfile(source, part)
        os.chown(part, HOME, HOME)
        return part, self.distros / name


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def fsload(bench, *args):
    output = subprocess.check_output([bench.fsload, *map(str, args)], text=True)
    return dict(pair.split("=") for pair in output.split())


# --- Parts --------------------------------------------------------------------


class Views:
    """Views of images, each for a container of its own, in one mount namespace."""

    def __init__(self, bench, service, images):
        self.bench, self.service = bench, service
        self.at = service.path / "at"
        self.names = [(30100 + i, images[i % len(images)]) for i in range(VIEWS)]
        script = ["set -eu", "mount --make-rprivate /"]
        for uid, image in self.names:
            (self.at / str(uid)).mkdir(parents=True, exist_ok=True)
            script.append(
                f"{bench.distrofs} attach {uid} --image {HOME}/{image} --at {self.at}/{uid} "
                f"--run {service.path}/run"
            )
        script += ["echo ready", "read end"]
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", "\n".join(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.holder.stdout.readline() != "ready\n":
            raise SystemExit(f"no views:\n{service.said()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.holder.stdin.close()
        self.holder.wait(60)

    def inside(self, *args):
        command = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", self.bench.fsload]
        output = subprocess.check_output([*command, *map(str, args)], text=True)
        return dict(pair.split("=") for pair in output.split())

    def read_everything(self):
        """Each image as a whole through one of its views, all others walked; bytes
        and seconds."""
        seen, jobs = set(), []
        for uid, image in self.names:
            jobs.append(("walk" if image in seen else "sum", uid))
            seen.add(image)
        # The longest first: a reader less at the end.
        jobs.sort(key=lambda job: job[0] == "walk")
        total, lock, failures = [0], threading.Lock(), []

        def read():
            while True:
                with lock:
                    if not jobs:
                        return
                    load, uid = jobs.pop(0)
                try:
                    result = self.inside(load, self.at / str(uid))
                except subprocess.CalledProcessError as error:
                    failures.append(f"{load} of {uid}: {error}")
                    return
                with lock:
                    total[0] += int(result.get("bytes", 0))

        began = time.monotonic()
        threads = [threading.Thread(target=read) for _ in range(READERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise SystemExit("\n".join(failures))
        return total[0], time.monotonic() - began


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
                with Views(bench, service, images) as views:
                    drop_caches()
                    size, seconds = views.read_everything()
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
