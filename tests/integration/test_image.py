"""deploy/Dockerfile against the build: what it copies is built, what it installs is what the programs are linked with, and what
it is built from reaches it."""

import fnmatch
import os
import re
import subprocess

import pytest

from kubernetes import dockerfile
from service import BUILD, ROOT

# That no program is linked with: whose certificates servers may have; and what is in every Debian.
NOT_LINKED, EVERYWHERE = {"ca-certificates"}, {"libc6", "libgcc-s1"}
SANITIZERS = {"libasan", "libubsan"}  # of the build that is tested, not of the image's


def libraries(program):
    """The files that it is linked with, of those that it names itself."""
    named = subprocess.run(["readelf", "-d", program], stdout=subprocess.PIPE, check=True, text=True).stdout
    found = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, text=True).stdout
    for name in re.findall(r"\(NEEDED\).*\[(.*)\]", named):
        if not name.startswith("ld-linux") and name.split(".")[0] not in SANITIZERS:
            yield re.search(rf"^\s*{re.escape(name)} => (\S+)", found, re.M)[1]


def packages_of(paths):
    """The packages that they come from, where each has one."""
    # Packages know a file by its path before or after /lib became /usr/lib.
    known = {path: {path, "/usr" + path, path.removeprefix("/usr")} for path in paths}
    told = subprocess.run(["dpkg-query", "-S", *sorted(set().union(*known.values()))], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=False, text=True).stdout
    owners = {path: line.split(":")[0] for line in told.splitlines() for path in [line.split(": ")[1]]}
    for path, names in known.items():
        assert names & set(owners), f"no package has {path}"
    return set(owners.values())


def test_what_is_copied_is_what_is_built():
    programs = dockerfile.last_stage().programs
    assert set(programs) == {"/usr/bin/" + name for name in ("assayd", "assay", "assay-wrap", "assay-launch")}
    for built in programs.values():
        assert os.access(os.path.join(BUILD, built), os.X_OK), built


def test_what_is_installed_is_what_the_programs_are_linked_with():
    stage = dockerfile.last_stage()
    with open("/etc/os-release", encoding="utf-8") as file:
        release = dict(line.strip().split("=", 1) for line in file if "=" in line)
    if f"{release['ID']}:{release.get('VERSION_CODENAME')}-slim" != stage.base:
        pytest.skip(f"the image is of {stage.base}, whose packages have other names than this machine's")
    linked = packages_of({path for built in stage.programs.values() for path in libraries(os.path.join(BUILD, built))})
    assert set(stage.packages) == linked - EVERYWHERE | NOT_LINKED


def test_the_user_is_a_number_that_is_not_roots():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", dockerfile.last_stage().user)


def ignored(path, patterns):
    """By the rules of .dockerignore: the last pattern that the path or a directory above it matches decides."""
    parts = path.split("/")
    is_ignored = False
    for pattern in patterns:
        keeps, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        if pattern.startswith("**/"):
            matches = any(fnmatch.fnmatch(part, pattern.removeprefix("**/")) for part in parts)
        else:
            matches = fnmatch.fnmatch("/".join(parts[:pattern.count("/") + 1]), pattern)
        if matches:
            is_ignored = not keeps
    return is_ignored


def test_every_source_reaches_the_build_and_nothing_that_was_built_does():
    with open(os.path.join(ROOT, ".dockerignore"), encoding="utf-8") as file:
        patterns = file.read().split()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.split("\0")
    assert "meson.build" in tracked
    assert not [path for path in tracked if ignored(path, patterns)]
    for path in (".git/config", "build/assayd", "build-debug/assayd", "third_party/hiredis/hiredis.c"):
        assert ignored(path, patterns), path
