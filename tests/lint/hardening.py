#!/usr/bin/python3
"""Reads from the programs of a release build that the hardening which meson.build asks for is in them.

usage: hardening.py BUILD-DIRECTORY
"""

import os
import subprocess
import sys

PROGRAMS = ("assayd", "assay", "assay-wrap", "assay-launch")
# Has no C library under it (src/launch/sys.h), and with that nothing that could move it, guard its stack or check its copies.
WITHOUT_LIBRARY = ("assay-launch",)


def readelf(option, path):
    command = ["readelf", "--wide", option, path]
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout


def faults(path):
    """What a program lacks, as a list of words."""
    alone = os.path.basename(path) in WITHOUT_LIBRARY
    header, segments = readelf("--file-header", path), readelf("--program-headers", path)
    dynamic, symbols = readelf("--dynamic", path), readelf("--symbols", path)
    missing = []
    if not alone and ("DYN (" not in header or "EXEC (" in header):
        missing.append("PIE")
    if not alone and "GNU_RELRO" not in segments:
        missing.append("RELRO")
    # A static program binds nothing at run time.
    if "There is no dynamic section" not in dynamic and "NOW" not in dynamic:
        missing.append("immediate binding")
    stack = [line for line in segments.splitlines() if "GNU_STACK" in line]
    if not stack or "RWE" in stack[0]:
        missing.append("stack that is not executable")
    if not alone and "__stack_chk_fail" not in symbols:
        missing.append("stack protector")
    if not alone and "_chk@" not in symbols and "_chk\n" not in symbols:
        missing.append("_FORTIFY_SOURCE")
    return missing


def main():
    programs = [os.path.join(sys.argv[1], name) for name in PROGRAMS]
    programs = [path for path in programs if os.path.exists(path)]
    if not programs:
        print(f"{sys.argv[1]} has no programs", file=sys.stderr)
        return 1
    status = 0
    for path in programs:
        missing = faults(path)
        if missing:
            print(f"{path}: built without {', '.join(missing)} [hardening]", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
