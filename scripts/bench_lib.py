"""What the measurements share: archives, a service, views, and cold caches."""

import contextlib
import gzip
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

HOME = 30000
MIB = 1 << 20
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
        return int(memory_mib(pid) * MIB)

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


def about(rounds):
    """What the figures are of."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": os.environ.get("DISTROFS_BENCH_COMMIT", "unknown"),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "rounds": rounds,
    }


def memory_mib(pid, what="VmRSS"):
    """What a process has resident, or another line of its status: RssAnon is its own
    memory, without pages of files, which the kernel can take back."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+)", status).group(1)) / 1024


class Mount:
    """`distrofs mount`, with cold caches; unmounted in the end."""

    def __init__(self, bench, archive, *options):
        self.bench, self.archive, self.options = bench, archive, options
        self.point = bench.work / "mnt"
        self.point.mkdir(exist_ok=True)

    def __enter__(self):
        drop_caches()
        command = [self.bench.distrofs, "mount", *self.options, self.archive, self.point]
        subprocess.check_call([str(part) for part in command], stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        pid = self.pid()
        subprocess.call(["umount", "--lazy", self.point])
        until = time.monotonic() + 30
        while pid and Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            time.sleep(0.01)

    def pid(self):
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().split(b"\0")
                if line[1:2] == [b"mount"] and os.fsencode(self.point) in line:
                    return int(entry.name)
        return None

    def peak_mib(self):
        return memory_mib(self.pid(), "VmHWM")

    def load(self, what, *args):
        """Runs a load; how long it took, and what it said."""
        began = time.monotonic()
        said = fsload(self.bench, what, self.point, *args)
        return time.monotonic() - began, said

    def stats(self):
        said = subprocess.check_output([self.bench.distrofs, "stats", "--json", self.point])
        return json.loads(said)


def lines(name, title, x, y, series):
    """A chart of lines, as `distrofs lab plot` draws it; axes are dictionaries, series
    names with points."""
    drawn = [
        {"name": series_name, "points": [list(point) for point in points], "has_points": True}
        for series_name, points in series.items()
    ]
    marks = {"lines": {"series": drawn}}
    return {"name": name, "title": title, "x": x, "y": y, "marks": marks}


def bars(name, title, y, groups, series):
    """A chart of bars that lie; series are names with a value for each group."""
    drawn = {"groups": groups, "series": list(series.items()), "horizontal": True}
    return {"name": name, "title": title, "x": {}, "y": y, "marks": {"bars": drawn}}


def plot(program, path, title, facts, charts):
    """Writes a document of charts: .html has all of them, .svg and .png the first."""
    document = {
        "title": title,
        "about": [[key, str(value)] for key, value in facts.items()],
        "sections": [
            {"heading": chart["title"], "items": [{"chart": chart}]} for chart in charts
        ],
    }
    command = [program, "lab", "plot", "-", "-o", str(path)]
    subprocess.run(command, input=json.dumps(document), text=True, check=True)


def fsload(bench, *args):
    output = subprocess.check_output([bench.fsload, *map(str, args)], text=True)
    return dict(pair.split("=") for pair in output.split())


# --- Views --------------------------------------------------------------------


class Views:
    """Views of images, each for a container of its own, in one mount namespace."""

    def __init__(self, bench, service, images, count):
        self.bench, self.service = bench, service
        self.at = service.path / "at"
        self.names = [(30100 + i, images[i % len(images)]) for i in range(count)]
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

    def read_everything(self, readers):
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
        threads = [threading.Thread(target=read) for _ in range(readers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise SystemExit("\n".join(failures))
        return total[0], time.monotonic() - began
