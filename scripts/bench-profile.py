"""Measures start profiles; scripts/bench-profile says what and how."""

import argparse
import contextlib
import json
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench_lib import Mount, about, drop_caches

SIDES = ["exploded", "without", "with"]

# What is read of the machine itself to begin a start.
TOOLS = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /tmp && exec chroot / true"]

NGINX = """daemon off;
master_process off;
error_log stderr;
pid /run/nginx.pid;
include /etc/nginx/modules-enabled/*.conf;
events {}
http {
  access_log off;
  include /etc/nginx/mime.types;
  client_body_temp_path /run/body;
  proxy_temp_path /run/proxy;
  fastcgi_temp_path /run/fastcgi;
  uwsgi_temp_path /run/uwsgi;
  scgi_temp_path /run/scgi;
  server {
    listen 127.0.0.1:PORT;
    root /usr/share/nginx/html;
  }
}
"""

PATIENCE_SECONDS = 120


def python(root, _work):
    """Ends by itself."""
    command = ["chroot", root, "/usr/bin/python3", "-c", "import numpy, django"]
    began = time.monotonic()
    subprocess.run([str(part) for part in command], check=True, timeout=PATIENCE_SECONDS)
    return time.monotonic() - began


def nginx(root, work):
    """Serves until it has answered."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = work / "nginx.conf"
    settings.write_text(NGINX.replace("PORT", str(port)))
    script = (
        'mount -t tmpfs none "$0/run" && mount -t tmpfs none "$0/var/log" && '
        'mkdir "$0/var/log/nginx" && cp "$1" "$0/run/nginx.conf" && '
        'exec chroot "$0" /usr/sbin/nginx -c /run/nginx.conf'
    )
    command = ["unshare", "--mount", "sh", "-c", script, str(root), str(settings)]
    began = time.monotonic()
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not answers(port):
            if server.poll() is not None:
                raise SystemExit(f"nginx ended with status {server.returncode}")
            if time.monotonic() > began + PATIENCE_SECONDS:
                raise SystemExit("nginx does not answer")
            time.sleep(0.001)
        return time.monotonic() - began
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def answers(port):
    with contextlib.suppress(ConnectionError):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            said = b""
            while piece := connection.recv(65536):
                said += piece
        if not said:
            return False
        if b" 200 " not in said.split(b"\r\n", 1)[0]:
            raise SystemExit(f"nginx answers {said[:200]!r}")
        return True
    return False


STARTS = {"python": python, "nginx": nginx}


@dataclass
class Bench:
    distrofs: str
    archive: Path
    work: Path
    lead: float
    memory: str
    runs: dict = field(default_factory=dict)
    profiles: dict = field(default_factory=dict)

    @property
    def tree(self):
        return self.work / "tree"

    def index(self, name):
        """Each start has an index of its own, beside which its profile is."""
        return self.work / f"{name}.dfsx"


class Fresh(Mount):
    """A cold mount; the tools that begin a start are not cold."""

    def __enter__(self):
        drop_caches()
        subprocess.check_call(TOOLS)
        command = [self.bench.distrofs, "mount", "--memory", self.bench.memory]
        command += [*self.options, "--owner", "0:0", self.archive, self.point]
        began = time.monotonic()
        subprocess.check_call([str(part) for part in command], stderr=subprocess.DEVNULL)
        self.seconds = time.monotonic() - began
        return self


def prepare(bench, names):
    bench.tree.mkdir()
    subprocess.check_call(["tar", "-C", bench.tree, "--numeric-owner", "-xf", bench.archive])
    first = bench.index(names[0])
    command = [bench.distrofs, "index", "--index", first, bench.archive]
    subprocess.check_call(command, stdout=subprocess.DEVNULL)
    for name in names[1:]:
        shutil.copyfile(first, bench.index(name))
    for name in names:
        bench.profiles[name] = record(bench, name)
        bench.runs[name] = {side: [] for side in SIDES}


def record(bench, name):
    """Records a start from a cold mount; what was told of it."""
    index = bench.index(name)
    with Fresh(bench, bench.archive, "--no-profile", "--index", index) as mount:
        command = [bench.distrofs, "profile", "record", "--json", "--index", index, mount.point]
        recording = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            said = recording.stderr.readline()
            if "recording until" not in said:
                raise SystemExit(said or "no profile could be recorded")
            STARTS[name](mount.point, bench.work)
        finally:
            recording.send_signal(signal.SIGINT)
            told, said = recording.communicate()
        if recording.returncode:
            raise SystemExit(said)
        return json.loads(told)


def measure(bench, name, side):
    if side == "exploded":
        drop_caches()
        subprocess.check_call(TOOLS)
        return {"seconds": STARTS[name](bench.tree, bench.work)}
    options = ["--index", bench.index(name)]
    if side == "without":
        options.append("--no-profile")
    with Fresh(bench, bench.archive, *options) as mount:
        time.sleep(bench.lead)
        seconds = STARTS[name](mount.point, bench.work)
        counters = mount.stats()["counters"]
        kept = ["cache_hit_blocks", "cache_joined_blocks", "cache_miss_blocks"]
        kept += ["profile_spans", "profile_hit_blocks", "prefetched_spans", "decoded_bytes"]
        counted = {counter: counters[counter] for counter in kept}
        return {"seconds": seconds, "mount_seconds": mount.seconds, **counted}


def medians(bench):
    def of(runs):
        return {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}

    return {name: {side: of(runs) for side, runs in sides.items()} for name, sides in bench.runs.items()}


def show(bench, found):
    columns = ["start", "", "seconds", "of exploded", "of without", "mount", "missed", "hit of profile"]
    print("{:8} {:9} {:>8} {:>12} {:>11} {:>7} {:>7} {:>15}".format(*columns))
    for name, sides in found.items():
        for side, figures in sides.items():
            seconds = figures["seconds"]
            line = f"{name:8} {side:9} {seconds:8.3f} {seconds / sides['exploded']['seconds']:12.2f}"
            if side != "exploded":
                line += f" {seconds / sides['without']['seconds']:11.2f}"
                line += f" {figures['mount_seconds']:7.3f} {figures['cache_miss_blocks']:7.0f}"
                line += f" {figures['profile_hit_blocks']:15.0f}"
            print(line)
        told = bench.profiles[name]
        print(f"{name:8} profile: {told['spans']} of {told['span_count']} spans, {told['blocks']} blocks")


def main():
    parser = argparse.ArgumentParser()
    for name in ("distrofs", "archive", "work"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=".")
    parser.add_argument("--lead", type=float, default=0)
    parser.add_argument("--memory", default="64M")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 16))
    parser.add_argument("--json")
    args = parser.parse_args()
    names = [name for name in STARTS if re.search(args.only, name)]
    if not names or args.rounds < 1:
        raise SystemExit(f"--only matches none of {' '.join(STARTS)}, or --rounds is below 1")
    bench = Bench(
        args.distrofs, Path(args.archive), Path(args.work), args.lead / 1000, args.memory
    )
    print("Preparing", file=sys.stderr, flush=True)
    prepare(bench, names)
    order = random.Random(args.seed)
    for number in range(args.rounds):
        round_of = [(name, side) for name in names for side in SIDES]
        order.shuffle(round_of)
        for name, side in round_of:
            print(f"Round {number + 1}: {name} {side}", file=sys.stderr, flush=True)
            bench.runs[name][side].append(measure(bench, name, side))
    found = medians(bench)
    facts = {**about(args.rounds), "archive": bench.archive.name, "seed": args.seed}
    facts |= {"lead_ms": args.lead, "memory": args.memory}
    show(bench, found)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    if args.json:
        result = {"about": facts, "medians": found, "profiles": bench.profiles, "runs": bench.runs}
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
