"""The shell of README.md and docs/API.md, executed as a reader would, and what it prints compared with what they show.

A block of ```sh after the comment `<!-- run -->` is run, all of one file in one shell. If a block of ```text follows
before the next block that is run, it is what the commands print; `…` stands for anything within a line, a line of `…`
alone for any lines. The comment `<!-- restart -->` is where the reader starts the service again. The address
127.0.0.1:8090 becomes that of the service under test, and pidof finds that one alone.
"""

import os
import re
import subprocess

import pytest

from service import BUILD, PATIENCE, ROOT, Service, clean_environment

PART = re.compile(r"^<!-- (?P<mark>run|restart) -->$|^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
END = "end-of-block"


def steps(document):
    """(line, kind, text, expected output or None) of what is to be done."""
    found, runs = [], False
    for part in PART.finditer(document):
        line = document.count("\n", 0, part.start()) + 1
        if part["mark"]:
            runs = part["mark"] == "run"
            if not runs:
                found.append([line, "restart", "", None])
        elif part["language"] == "sh" and runs:
            found.append([line, "run", part["text"], None])
            runs = False
        elif part["language"] == "text" and found and found[-1][3] is None:
            found[-1][3] = part["text"]
    return found


def pattern(expected):
    """What the shown output stands for, as a regular expression."""
    lines = []
    for line in expected.splitlines():
        lines.append(r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n")
    return re.compile("".join(lines))


class Shell:
    def __init__(self, service, directory):
        self.service = service
        self.process = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=directory,
            env=clean_environment(ASSAY_URL=service.url, PATH=BUILD + ":" + os.environ["PATH"], LC_ALL="C.UTF-8"))

    def run(self, text):
        """What a block printed, and its exit status."""
        text = text.replace("127.0.0.1:8090", self.service.listen)
        self.process.stdin.write(f"pidof() {{ echo {self.service.process.pid}; }}\n"
                                 f"{{\n{text}\n}} </dev/null\nprintf '\\n{END} %s\\n' $?\n")
        self.process.stdin.flush()
        output = ""
        for line in self.process.stdout:
            output += line
            found = re.search(rf"\n{END} (\d+)\n$", output)
            if found:
                return output[:found.start()], int(found[1])
        raise AssertionError(f"the shell ended: {output}")

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)


@pytest.mark.parametrize("name", ["README.md", "docs/API.md"])
def test_what_is_shown_is_what_happens(name, tmp_path):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        document = file.read()
    todo = steps(document)
    assert any(kind == "run" for _, kind, _, _ in todo)
    (tmp_path / "reader").mkdir()
    with Service(tmp_path) as service:
        shell = Shell(service, tmp_path / "reader")
        for line, kind, text, expected in todo:
            if kind == "restart":
                service.process.wait(PATIENCE)
                service.start()
                continue
            output, status = shell.run(text)
            assert status == 0, f"{name}:{line}: exit status {status}:\n{text}\n{output}"
            if expected is not None:
                shown = output if output.endswith("\n") or not output else output + "\n"
                assert pattern(expected).fullmatch(shown), f"{name}:{line} prints\n{shown}\nbut shows\n{expected}"
        shell.close()
