"""The programs of tests/corpus over HTTP: each ends as its case.json says, while ten honest ones beside it succeed."""

import base64
import itertools
import json
import pathlib

import pytest

import processes
from service import ROOT

CORPUS = pathlib.Path(ROOT) / "tests" / "corpus"
CASES = {path.parent.name: json.loads(path.read_text()) for path in sorted(CORPUS.glob("*/case.json"))}
HONEST = [name for name, case in CASES.items() if case.get("honest")]
BESIDE = 10


@pytest.fixture(scope="module")
def service_flags():
    return ("--sandbox-slots", "6", "--sandbox-uid-base", str(processes.UID_BASE))


def body_of(name, **more):
    """The body of POST /execute."""
    files = []
    top = CORPUS / name / "files"
    for path in sorted(top.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            entry = {"path": str(path.relative_to(top))}
            try:
                entry["content"] = content.decode()
            except UnicodeDecodeError:
                entry.update(content=base64.b64encode(content).decode(), encoding="base64")
            files.append(entry)
    return {**CASES[name]["request"], "files": files, **more}


def one_of(wanted):
    return wanted if isinstance(wanted, list) else [wanted]


def judge(service, name, result):
    """Compares a result with what the case expects."""
    expect = dict(CASES[name]["expect"])
    assert result["phase"] in one_of(expect.pop("phase")), result
    assert result["reason"] in one_of(expect.pop("reason")), result
    for key in ("exit_code", "signal"):
        if key in expect:
            assert result[key] == expect.pop(key), result
    if "truncated" in expect:
        assert result["truncated"] == expect.pop("truncated"), result
    for index, run in enumerate(expect.pop("runs", [])):
        test = result["tests"][index]
        assert (test["status"], test["exit_code"]) == ("passed" if run["exit_code"] == 0 else "failed", run["exit_code"]), test
    for stream in ("stdout", "stderr"):
        wanted = {key: expect.pop(key) for key in list(expect) if key.startswith(stream)}
        if not wanted:
            continue
        answer = service.call("GET", f"/logs/{result['job_name']}?stream={stream}", headers={"Accept": "text/plain"})
        assert answer.status == 200, answer
        output = answer.body
        for key, value in wanted.items():
            how = key[len(stream):]
            if how == "":
                assert output == value.encode()
            elif how == "_base64":
                assert output == base64.b64decode(value)
            elif how == "_contains":
                assert all(part.encode() in output for part in value), (output, value)
            elif how == "_length":
                assert len(output) == value
            else:
                pytest.fail(f"{key} is not understood")
    assert not expect, f"{expect} is not understood"


turns = itertools.count()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_case(service, name):
    case = service.call("POST", "/execute", body_of(name, priority=9))
    assert case.status == 201, case
    first = next(turns)
    companions = [HONEST[(first + i) % len(HONEST)] for i in range(BESIDE)]
    beside = service.call("POST", "/execute/batch", [body_of(other) for other in companions]).json["results"]
    bodies = {job["job_name"]: other for job, other in zip(beside, companions)}
    service.wait_status(case.json["job_name"], "succeeded", "failed", "timed_out", "out_of_memory")
    for job, other in bodies.items():
        service.wait_status(job, "succeeded", "failed", "timed_out", "out_of_memory")
        judge(service, other, result_of(service, job))
    judge(service, name, result_of(service, case.json["job_name"]))


def result_of(service, job):
    result = service.call("GET", f"/tasks/{job}")
    logs = service.call("GET", f"/logs/{job}")
    assert result.status == 200 and logs.status == 200, (result, logs)
    return {**result.json, **{key: logs.json[key] for key in ("stdout", "stderr", "truncated")}}


def test_there_are_honest_ones():
    assert len(HONEST) >= 5
