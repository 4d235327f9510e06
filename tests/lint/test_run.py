"""The counts of `./dev test` miss no failure."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import run  # noqa: E402


@pytest.mark.parametrize("result, stdout, count", [
    ("OK", "1..3\nok 1 - a\nok 2 - b # SKIP no network\nok 3 - c\n", (2, 0, 1)),
    ("FAIL", "1..2\nok 1 - a\nnot ok 2 - b\n", (1, 1, 0)),
    ("ERROR", "1..3\nok 1 - a\n", (1, 1, 0)),  # it crashed before its plan was done
    ("TIMEOUT", "", (0, 1, 0)),
    ("OK", "no TAP here\n", (1, 0, 0)),
    ("SKIP", "", (0, 0, 1)),
    ("SKIP", "1..0 # SKIP not here\n", (0, 0, 1)),
    ("FAIL", "okay\n", (0, 1, 0)),
])
def test_a_test_of_meson_counts_its_subtests(result, stdout, count):
    assert run.count_of_meson_test({"result": result, "stdout": stdout}) == count


def test_what_a_failed_test_said_is_shown():
    entry = {"name": "x", "result": "FAIL", "stdout": "1..2\nok 1 - a\n# left 1\nnot ok 2 - b\n"}
    assert run.what_failed(entry) == "\n--- x: FAIL\n1..2\n# left 1\nnot ok 2 - b\n"
    assert run.what_failed({**entry, "result": "OK"}) == ""


def test_total():
    assert run.total([run.Count(1, 2, 3), run.Count(10, 20, 30)]) == (11, 22, 33)
    assert run.total([]) == (0, 0, 0)


@pytest.mark.parametrize("status, count", [(0, (1, 0, 0)), (3, (0, 1, 0)), (77, (0, 0, 1))])
def test_a_step_that_fails_counts_as_failed(status, count):
    assert run.step("sh", "-c", f"exit {status}") == count
