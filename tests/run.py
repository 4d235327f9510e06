#!/usr/bin/python3
"""What `./dev test` does: builds and checks in every way, runs every test, and counts.

The last line is `N passed, N failed, N skipped`; the subtests of unit and contract tests and the cases of pytest count
one each, and so does each build or check. The exit status is 1 if anything failed. With --quick only the debug build
and the tests that are not slow (meson's suite or pytest's mark `slow`).
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEBUG = os.path.join(ROOT, "build-debug")
FUZZ_SECONDS = 30
# So many tests at a time: most of them wait for what they have broken, so more than the processors there are.
PROCESSES = 4
TAP_LINE = re.compile(r"^(not )?ok\b(.*)", re.M)

Count = collections.namedtuple("Count", "passed failed skipped")


def run(*command, **keywords):
    """Runs a command from the root of the tree, its output going where ours goes; returns its exit status."""
    return subprocess.run(command, cwd=ROOT, check=False, **keywords).returncode


def step(*command):
    """A build or a check: it counts as one test; with status 77 as one that this machine cannot have."""
    return {0: Count(1, 0, 0), 77: Count(0, 0, 1)}.get(run(*command), Count(0, 1, 0))


def count_of_meson_test(entry):
    """The count of one line of meson's testlog.json: of its TAP subtests, where it has any."""
    good = entry["result"] in ("OK", "EXPECTEDFAIL", "SKIP")
    passed = failed = skipped = 0
    for line in TAP_LINE.finditer(entry.get("stdout", "")):
        if re.search(r"#\s*skip", line.group(2), re.I):
            skipped += 1
        elif line.group(1):
            failed += 1
        else:
            passed += 1
    if not good and not failed:
        failed = 1  # it crashed, hung or stopped before its plan was done
    if good and passed + failed + skipped == 0:
        passed, skipped = (0, 1) if entry["result"] == "SKIP" else (1, 0)
    return Count(passed, failed, skipped)


def what_failed(entry):
    """What a failed test printed to standard output; meson leaves that out for those that speak TAP."""
    if entry["result"] in ("OK", "EXPECTEDFAIL", "SKIP"):
        return ""
    lines = [line for line in entry.get("stdout", "").splitlines() if not line.startswith("ok ")]
    return "\n".join([f"\n--- {entry['name']}: {entry['result']}", *lines, ""])


def total(counts):
    return Count(*(sum(column) for column in zip(Count(0, 0, 0), *counts)))


def meson_tests(quick):
    """Unit and contract tests, as the debug build has them."""
    log = os.path.join(DEBUG, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.remove(log)
    status = run("meson", "test", "-C", DEBUG, "--no-rebuild", "--print-errorlogs", "--timeout-multiplier", "4",
                 "--num-processes", str(PROCESSES),
                 *(["--no-suite", "slow"] if quick else []))
    if not os.path.exists(log):
        return Count(0, 1, 0)
    with open(log, encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    print("".join(what_failed(entry) for entry in entries), end="", flush=True)
    count = total(count_of_meson_test(entry) for entry in entries)
    return count if status == 0 or count.failed else Count(count.passed, 1, count.skipped)


def python_tests(quick):
    """The integration tests, against the programs of the debug build, those of Kubernetes and its stand-in, and those of the
    linters and of this file."""
    report = os.path.join(DEBUG, "pytest.xml")
    if os.path.exists(report):
        os.remove(report)
    folders = [name for name in ("tests/lint", "tests/integration", "tests/kubernetes") if os.path.isdir(os.path.join(ROOT, name))]
    status = run("/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}",
                 "-n", str(PROCESSES), "--dist", "loadgroup", "--durations=10",
                 *(["-m", "not slow"] if quick else []), *folders, env={**os.environ, "ASSAY_BUILD": DEBUG})
    if not os.path.exists(report):
        return Count(0, 1, 0)
    suite = next(xml.etree.ElementTree.parse(report).getroot().iter("testsuite"))
    tests, failed, errors, skipped = (int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped"))
    failed += errors
    if status != 0 and not failed:
        failed, tests = 1, tests + 1
    return Count(tests - failed - skipped, failed, skipped)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick

    steps = [
        ("debug build with sanitizers", lambda: step("./dev", "build", "debug")),
        ("unit and contract tests", lambda: meson_tests(quick)),
        ("python tests", lambda: python_tests(quick)),
    ]
    if not quick:
        steps[:0] = [
            ("lint", lambda: step("./dev", "lint", "--quick")),
            ("format", lambda: step("./dev", "format", "--check")),
        ]
        steps.insert(-1, ("release build", lambda: step("./dev", "build", "release")))  # which a python test starts
        if not os.environ.get("ASSAY_TEST_KUBECONFIG"):
            steps.insert(-1, ("Kubernetes", lambda: step("./dev", "kubernetes", "build")))
        steps += [
            ("clang build", lambda: step("./dev", "build", "clang")),
            ("clang-tidy", lambda: step("./dev", "lint", "--tidy")),
            ("hardening", lambda: step("tests/lint/hardening.py", "build")),
            ("fuzz targets", lambda: step("./dev", "fuzz", str(FUZZ_SECONDS))),
        ]

    results = []
    for name, action in steps:
        print(f"\n=== {name}", flush=True)
        start = time.monotonic()
        count = action()
        results.append((name, count, time.monotonic() - start))

    print()
    for name, count, seconds in results:
        verdict = "FAILED" if count.failed else "ok"
        print(f"{verdict:6}  {name:28} {count.passed:5} passed {count.failed:3} failed {count.skipped:3} skipped"
              f"  {seconds:6.1f} s")
    count = total(result[1] for result in results)
    print(f"{count.passed} passed, {count.failed} failed, {count.skipped} skipped")
    return 1 if count.failed else 0


if __name__ == "__main__":
    sys.exit(main())
