#!/usr/bin/python3
"""Reads from the programs of a release build that the hardening which meson.build asks for is in them.

usage: hardening.py BUILD-DIRECTORY
"""

import os
import subprocess
import sys

PROGRAMS = ("assayd", "assay", "assay-wrap", "assay-launch")


def readelf(option, path):
    command = ["readelf", "--wide", option, path]
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout


def faults(path):
    """What a program lacks, as a list of words."""
    header, segments = readelf("--file-header", path), readelf("--program-headers", path)
    dynamic, symbols = readelf("--dynamic", path), readelf("--symbols", path)
    missing = []
    if "DYN (" not in header or "EXEC (" in header:
        missing.append("PIE")
    if "GNU_RELRO" not in segments:
        missing.append("RELRO")
    # A static program binds nothing at run time.
    if "There is no dynamic section" not in dynamic and "NOW" not in dynamic:
        missing.append("immediate binding")
    stack = [line for line in segments.splitlines() if "GNU_STACK" in line]
    if not stack or "RWE" in stack[0]:
        missing.append("stack that is not executable")
    if "__stack_chk_fail" not in symbols:
        missing.append("stack protector")
    # musl, which assay-launch is linked with where the system has it, has no checking variants.
    musl = "__init_ssp" in symbols
    if "_chk@" not in symbols and "_chk\n" not in symbols and not musl:
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
