#!/usr/bin/python3
"""Holds the #includes of src/ and include/ to the floors of the house (docs/ARCHITECTURE.md).

Each folder names here what it may use. Prints one line per breach, as compilers do, and exits with 1 if there was one.
With --stamp and --depfile it is a build step that runs again when a source was changed, added or removed.
"""

import argparse
import os
import re
import sys

# folder under src/ -> what it may include besides its own headers. `doors` is include/assay.
IMPLEMENTATION = {"doors", "base", "io", "task"}
SURFACE = {"doors", "base", "io", "task", "store", "bus", "executor", "coordinator"}
FLOORS = {
    "doors": {"base"},
    "base": set(),
    "io": {"base"},
    "task": {"doors", "base"},
    "store": IMPLEMENTATION,
    "bus": IMPLEMENTATION,
    # what it starts; launch/plan.h, wrap/plan.h and wrap/report.h are what they say to each other
    "executor": IMPLEMENTATION | {"launch", "wrap"},
    "coordinator": {"doors", "base", "task"},
    "webhook": IMPLEMENTATION,
    "workflow": SURFACE,
    "api": SURFACE | {"webhook"},  # /metrics
    "celery": SURFACE,
    "web": set(),
    # the other programs stand beside the house
    "cli": {"doors", "base", "task"},
    "wrap": {"base", "launch"},  # launch/archive.h; the program itself uses nothing of base, only plan_write.h does
    "launch": {"base"},
}
# The coordinator never learns how a door does its work, so it has no business with these libraries either.
NOT_IN_COORDINATOR = ("sqlite3.h", "libpq-fe.h", "hiredis/", "llhttp.h", "curl/", "seccomp.h")
ROOT_FILES = ("assayd.c", "settings.c", "settings.h")  # the composition root: the one place that knows every part

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folder_of(path):
    """The folder that a path below the source root belongs to; None for the composition root."""
    parts = path.split("/")
    if parts[0] == "include":
        return "doors"
    return parts[1] if len(parts) > 2 else None


def sources(root):
    """All C files of src/ and include/ as paths below root, and the directories that were read."""
    files, directories = [], []
    for top in ("include", "src"):
        for directory, names, entries in os.walk(os.path.join(root, top)):
            names.sort()
            directories.append(directory)
            files += [os.path.relpath(os.path.join(directory, e), root) for e in sorted(entries) if e[-2:] in (".c", ".h")]
    return files, directories


def resolve(root, includer, name, quoted):
    """The file of the tree that an #include means, or None if it is a library's."""
    places = ([os.path.dirname(includer)] if quoted else []) + ["src", "include"]
    for place in places:
        path = os.path.normpath(os.path.join(place, name))
        if os.path.isfile(os.path.join(root, path)):
            return path
    return None


def cycle_in(uses):
    """A list of folders that use each other in a circle, or None. uses: folder -> set of folders."""
    done = set()

    def visit(folder, trail):
        if folder in trail:
            return trail[trail.index(folder):] + [folder]
        if folder in done:
            return None
        done.add(folder)
        for other in sorted(uses.get(folder, ())):
            found = visit(other, trail + [folder])
            if found:
                return found
        return None

    for folder in sorted(uses):
        found = visit(folder, [])
        if found:
            return found
    return None


def check(root):
    """Returns (breaches, files and directories that were read)."""
    breaches, uses = [], {}
    files, read = sources(root)
    for path in files:
        folder = folder_of(path)
        if folder is None and os.path.basename(path) not in ROOT_FILES:
            breaches.append(f"{path}:1: only {', '.join(ROOT_FILES)} stand in src/ itself; put this file on a floor")
            continue
        if folder is not None and folder not in FLOORS:
            breaches.append(f"{path}:1: no floor is set for the folder {folder} in tests/lint/floors.py")
            continue
        with open(os.path.join(root, path), encoding="utf-8") as file:
            lines = file.readlines()
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            name = match.group(2)
            target = resolve(root, path, name, match.group(1) == '"')
            if target is None:
                if folder == "coordinator" and name.startswith(NOT_IN_COORDINATOR):
                    breaches.append(f"{path}:{number}: coordinator knows the doors only and may not use {name}")
                continue
            other = folder_of(target)
            if folder is None or other == folder:
                continue
            uses.setdefault(folder, set()).add(other)
            if other not in FLOORS[folder]:
                allowed = ", ".join(sorted(FLOORS[folder])) or "nothing"
                breaches.append(f"{path}:{number}: {folder} may not use {name} (it may use: {allowed})")
    cycle = cycle_in(uses)
    if cycle:
        breaches.append(f"src:1: folders use each other in a circle: {' -> '.join(cycle)}")
    return breaches, [os.path.join(root, path) for path in files] + read


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(here)))
    parser.add_argument("--stamp", help="file to write when all is well")
    parser.add_argument("--depfile", help="file to write the names of what was read to, for ninja")
    options = parser.parse_args()

    breaches, read = check(options.root)
    for breach in breaches:
        print(f"{breach} [floors]", file=sys.stderr)
    if breaches:
        return 1
    if options.depfile:
        with open(options.depfile, "w", encoding="utf-8") as file:
            names = [name.replace(" ", "\\ ") for name in read]
            file.write(f"{options.stamp}: " + " \\\n  ".join(names) + "\n")
    if options.stamp:
        with open(options.stamp, "w", encoding="utf-8"):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
