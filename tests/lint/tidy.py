#!/usr/bin/python3
"""Runs clang-tidy over the sources, two things better than it does alone: on all processors, and not again for a file
that was clean when it, all that it includes, its options and the configuration were the same. What was clean is
remembered in ${XDG_CACHE_HOME:-~/.cache}/assay/tidy.

usage: tidy.py BUILD-DIRECTORY   (of clang, with its compile_commands.json)
"""

import concurrent.futures
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time

TIDY = "clang-tidy-19"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "assay", "tidy")
FORGET_AFTER = 30 * 86400  # seconds without use


def run(command, directory):
    return subprocess.run(command, cwd=directory, capture_output=True, check=False)


def preprocessed(entry):
    """What the compiler sees of a file: with comments, since `NOLINT` is one."""
    words = shlex.split(entry["command"])
    at = words.index("-o")
    words = [word for word in words[:at] + words[at + 2:] if word not in ("-c", "-MD")]
    for option in ("-MQ", "-MF"):
        at = words.index(option)
        del words[at:at + 2]
    return run(words + ["-E", "-C"], entry["directory"]).stdout


def check(entry, configuration):
    """The findings in one file as text, empty if there are none."""
    seen = os.path.relpath(os.path.join(entry["directory"], entry["file"]), ROOT).encode()
    source = preprocessed(entry)
    if source:
        # Line marks bear the paths of this checkout; another checkout's are as good.
        source = source.replace(ROOT.encode(), b"")
        mark = os.path.join(CACHE, hashlib.sha256(b"\0".join((configuration, seen, source))).hexdigest())
        if os.path.exists(mark):
            os.utime(mark)
            return ""
    result = run([TIDY, "-p", entry["directory"], "--quiet", entry["file"]], entry["directory"])
    if result.returncode:
        return result.stdout.decode(errors="replace") or result.stderr.decode(errors="replace")
    if source:
        with open(mark, "w", encoding="utf-8"):
            pass
    return ""


def main():
    build = os.path.abspath(sys.argv[1])
    with open(os.path.join(ROOT, ".clang-tidy"), "rb") as file:
        configuration = file.read() + run([TIDY, "--version"], ROOT).stdout
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        ours = os.path.join(ROOT, "src") + os.sep
        entries = {os.path.normpath(os.path.join(entry["directory"], entry["file"])): entry for entry in json.load(file)}
    os.makedirs(CACHE, exist_ok=True)
    for name in os.listdir(CACHE):
        if time.time() - os.stat(os.path.join(CACHE, name)).st_mtime > FORGET_AFTER:
            os.remove(os.path.join(CACHE, name))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = [pool.submit(check, entry, configuration) for path, entry in entries.items()
                if path.startswith(ours) and not path.startswith(build)]
        found = [finding for finding in (item.result() for item in work) if finding]
    print("".join(found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
