"""What scripts/bench-api measures. Only the standard library.

    bench-api.py registry              prints a registry, for `distrofs admin import`
    bench-api.py measure RUN SECONDS   asks the service whose directory is RUN
"""

import base64
import http.client
import json
import os
import signal
import socket
import statistics
import sys
import threading
import time

CONTAINERS = 10_000
DISTROS = 1_000
CLIENTS = 200
FIRST = 30_000
NAME, PASSWORD = "kratos", "deimos of sparta"
HEADERS = {"Authorization": "Basic " + base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()}


def registry():
    """One customer's, so that each list is as long as it can be."""
    containers = [
        {
            "uid": FIRST + number,
            "customer": NAME,
            "server": "here",
            "name": f"container {number}",
            "distro": "precise",
            "custom_distros_storage": number == 0,
        }
        for number in range(CONTAINERS)
    ]
    for number in range(1, DISTROS):
        containers[number]["custom_distro"] = f"{FIRST}/d{number}"
    distros = [{"container": FIRST, "path": f"d{n}", "name": f"distro {n}"} for n in range(DISTROS)]
    return {
        "servers": [{"name": "here", "address": "192.0.2.1"}],
        "default_distros": ["precise"],
        "customers": [{"username": NAME, "password": PASSWORD}],
        "containers": containers,
        "distros": distros,
    }


class Service:
    def __init__(self, run):
        self.run = run

    def ask(self, method, path, body=None):
        with open(f"{self.run}/api.addr", encoding="utf-8") as file:
            host, port = file.read().strip().rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=120)
        try:
            connection.request(method, f"/api/{path}", body and json.dumps(body), HEADERS)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def control(self, request):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.connect(f"{self.run}/control.sock")
            link.send(json.dumps(request).encode())
            replies = []
            while not replies or not ("Done" in replies[-1] or "Failed" in replies[-1]):
                replies.append(link.recv(1 << 16).decode())
            return replies


def milliseconds(work, times):
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), max(took)


def show(what, median, worst, bound):
    print(f"{what:<52} {median:7.2f} ms (longest {worst:7.2f}; at most {bound})", flush=True)


def measure_sizes(service):
    def listed(path, count):
        status, body = service.ask("GET", path)
        assert status == 200, body
        assert len(json.loads(body)) == count, path
        # Until the last byte is there; what the client makes of it is its own affair.
        return milliseconds(lambda: service.ask("GET", path), 51)

    show(f"list of {DISTROS} custom distros", *listed("custom_distros", DISTROS), "50 ms")
    show("list of those a container may use", *listed(f"custom_distros/{FIRST + 1}", DISTROS), "50 ms")
    show(f"list of {CONTAINERS} containers", *listed("containers", CONTAINERS), "50 ms")
    deadline = time.monotonic() + 30
    while f'\\"containers\\":{CONTAINERS}' not in "".join(service.control("Status")):
        assert time.monotonic() < deadline, "the service does not know all containers"
        time.sleep(0.1)
    numbers = iter(range(10**9))

    def decide():
        uid = FIRST + 1 + next(numbers) % (DISTROS - 1)
        replies = service.control({"Place": {"container": uid, "image": None}})
        assert any("Place" in reply for reply in replies), replies

    show("decision about a container, with the connection", *milliseconds(decide, 2001), "2 ms")


def measure_load(service, seconds):
    """Each client counts in the note of a distro of its own."""
    ids = [distro["id"] for distro in json.loads(service.ask("GET", "custom_distros")[1])][:CLIENTS]
    stop = threading.Event()
    told = dict.fromkeys(ids, 0)
    failed, took = [0], []

    def client(number):
        count = 0
        while not stop.is_set():
            count += 1
            began = time.perf_counter()
            try:
                status, _ = service.ask("POST", f"custom_distro/{number}", {"note": str(count)})
            except OSError:
                status = None
            except http.client.HTTPException:
                status = None
            if status == 200:
                told[number] = count
                took.append(time.perf_counter() - began)
            else:
                failed[0] += 1
                time.sleep(0.05)

    clients = [threading.Thread(target=client, args=(number,)) for number in ids]
    for one in clients:
        one.start()
    time.sleep(seconds / 2)
    killed = [pid for pid in os.listdir("/proc") if pid.isdigit() and is_api(pid, service.run)]
    for pid in killed:
        os.kill(int(pid), signal.SIGKILL)
    time.sleep(seconds / 2)
    stop.set()
    for one in clients:
        one.join()
    assert len(killed) == 1, killed
    lost = [n for n in ids if int(json.loads(service.ask("GET", f"custom_distro/{n}")[1])["note"]) < told[n]]
    print(
        f"{CLIENTS} clients for {seconds} s, killed in the middle: {sum(told.values())} changes "
        f"acknowledged, {len(lost)} lost, {failed[0]} requests not answered, "
        f"median {statistics.median(took) * 1000:.0f} ms"
    )
    return not lost


def is_api(pid, run):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    return words[:3] == [b"distrofs", b"api", b"--run"] and words[3] == run.encode()


def main():
    if sys.argv[1] == "registry":
        json.dump(registry(), sys.stdout)
        return
    service = Service(sys.argv[2])
    measure_sizes(service)
    sys.exit(0 if measure_load(service, float(sys.argv[3])) else 1)


main()
