"""Tells what a container sees; lets it read and write what it may.

    GET  /           who and where the container is, as JSON
    GET  /some/file  that file's content
    PUT  /some/file  writes it

What cannot be read or written is answered with 403 and the error's name. It is
meant for a loopback address only.
"""

import errno
import json
import os


def groups():
    """All groups of this process but its own."""
    return sorted(set(os.getgroups()) - {os.getgid()})


def mounts():
    """Every mount point with its options and filesystem, the topmost last."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        lines = [line.split() for line in table]
    return [(line[4], line[5], line[line.index("-") + 1]) for line in lines]


def read(path):
    with open(path, "rb") as file:
        return file.read()


def state():
    return {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": groups(),
        "hostname": os.uname().nodename,
        "marker": read("/etc/image-marker").decode(),
        "uwsgi": os.readlink("/proc/self/exe"),
        "uwsgi_is_of_image": os.path.samefile("/proc/self/exe", "/opt/unbit/uwsgi/uwsgi"),
        "old_root": os.listdir("/.old_root"),
        "mounts": mounts(),
    }


def answer(environ):
    path = environ["PATH_INFO"]
    if path == "/":
        return json.dumps(state()).encode()
    if environ["REQUEST_METHOD"] == "PUT":
        content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        with open(path, "wb") as file:
            file.write(content)
        return b"written"
    return read(path)


def application(environ, start_response):
    status = "200 OK"
    try:
        body = answer(environ)
    except OSError as error:
        status = "403 Forbidden"
        body = errno.errorcode.get(error.errno, "?").encode()
    start_response(status, [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))])
    return [body]
