"""Shared libraries, compiled when first asked for: a module for redis-server and valkey-server, and
a name service on cue to be preloaded into the proxy."""
import os
import subprocess

from .servers import scratch

SOURCES = os.path.join(os.path.dirname(__file__), "..", "module")


def compiled(name):
    path = os.path.join(scratch("module"), name + ".so")
    if not os.path.exists(path):
        subprocess.run([os.environ.get("CC", "cc"), "-std=gnu11", "-Wall", "-Wextra", "-Werror",
                        "-O1", "-shared", "-fPIC", "-o", path, os.path.join(SOURCES, name + ".c"),
                        "-ldl"], check=True)
    return path


def module():
    """The path of the compiled module."""
    return compiled("learnt")


def slow_names():
    """The path of the name service: see slow_names.c."""
    return compiled("slow_names")
