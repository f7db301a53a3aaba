"""The test module: a shared library for redis-server and valkey-server, compiled once a process."""
import os
import subprocess

from .servers import scratch

SOURCE = os.path.join(os.path.dirname(__file__), "..", "module", "learnt.c")
_path = None


def module():
    """The path of the compiled module."""
    global _path
    if _path is None:
        path = os.path.join(scratch("module"), "learnt.so")
        subprocess.run([os.environ.get("CC", "cc"), "-std=gnu11", "-Wall", "-Wextra", "-Werror",
                        "-O1", "-shared", "-fPIC", "-o", path, SOURCE], check=True)
        _path = path
    return _path
