"""The linters find what they are there for, and leave alone what is right."""

import os
import shutil
import subprocess
import sys

import pytest

import floors
import hardening
import style
import tidy

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


@pytest.fixture
def house(tmp_path):
    """A function that makes a small tree of sources from {path: text} and returns its root."""

    def make(files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return str(tmp_path)

    return make


def breaches(root):
    return floors.check(root)[0]


HEADERS = {
    "include/assay/store.h": '#include "base/text.h"\n',
    "src/base/text.h": "#include <stddef.h>\n",
    "src/io/http.h": '#include "base/text.h"\n',
    "src/task/forms.h": '#include "assay/store.h"\n',
    "src/store/sqlite/row.h": "",
    "src/coordinator/coordinator.h": "",
    "src/api/api.h": "",
}


def test_a_house_in_order_has_no_breach(house):
    root = house({
        **HEADERS,
        "src/store/sqlite/row.c": '#include "store/sqlite/row.h"\n#include "io/http.h"\n#include <sqlite3.h>\n',
        "src/coordinator/x.c": '#include "assay/store.h"\n#include "task/forms.h"\n#include <uv.h>\n',
        "src/api/x.c": '#include "coordinator/coordinator.h"\n#include "io/http.h"\n',
        "src/assayd.c": '#include "store/sqlite/row.h"\n#include "api/api.h"\n',
    })
    assert breaches(root) == []


@pytest.mark.parametrize("path, include", [
    ("src/base/x.c", '"task/forms.h"'),
    ("src/base/x.c", '"assay/store.h"'),
    ("src/io/x.c", '"task/forms.h"'),
    ("src/io/x.c", "<assay/store.h>"),
    ("src/task/x.c", '"io/http.h"'),
    ("src/store/sqlite/x.c", '"coordinator/coordinator.h"'),
    ("src/bus/x.c", '"store/sqlite/row.h"'),
    ("src/coordinator/x.c", '"store/sqlite/row.h"'),
    ("src/coordinator/x.c", '"../store/sqlite/row.h"'),
    ("src/coordinator/x.c", '"io/http.h"'),
    ("src/coordinator/x.c", '"api/api.h"'),
    ("src/coordinator/x.c", "<sqlite3.h>"),
    ("src/cli/x.c", '"io/http.h"'),
    ("src/wrap/x.c", '"task/forms.h"'),
    ("src/launch/x.c", '"executor/x.h"'),
    ("include/assay/x.h", '"io/http.h"'),
])
def test_an_include_from_a_floor_above_is_a_breach(house, path, include):
    root = house({**HEADERS, "src/executor/x.h": "", path: f"/* x */\n#  include {include}\n"})
    assert breaches(root) and breaches(root)[0].startswith(f"{path}:2: ")


def test_a_folder_without_a_floor_and_a_stray_file_are_breaches(house):
    found = breaches(house({"src/misc/x.c": "", "src/helper.c": ""}))
    assert [line.split(":")[0] for line in found] == ["src/helper.c", "src/misc/x.c"]


def test_folders_in_a_circle_are_a_breach(house, monkeypatch):
    monkeypatch.setitem(floors.FLOORS, "base", {"io"})
    found = breaches(house({**HEADERS, "src/base/x.c": '#include "io/http.h"\n'}))
    assert found == ["src:1: folders use each other in a circle: base -> io -> base"]


def test_the_program_fails_and_writes_no_stamp(house):
    root = house({**HEADERS, "src/base/x.c": '#include "io/http.h"\n'})
    command = [sys.executable, f"{HERE}/floors.py", "--root", root, "--stamp", f"{root}/stamp", "--depfile", f"{root}/d"]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 1
    assert not os.path.exists(f"{root}/stamp")
    os.remove(f"{root}/src/base/x.c")
    assert subprocess.run(command, check=False).returncode == 0
    assert os.path.exists(f"{root}/stamp")
    with open(f"{root}/d", encoding="utf-8") as depfile:
        assert f"{root}/src/base/text.h" in depfile.read()


def rules(path, text, **keywords):
    return [rule for _, rule, _ in style.findings(path, text, **keywords)]


@pytest.mark.parametrize("code, expected", [
    ("strcpy(a, b);", ["banned-function"]),
    ("strcat (a, b);", ["banned-function"]),
    ("sprintf(a, \"%d\", b);", ["banned-function"]),
    ("gets(a);", ["banned-function"]),
    ("x = strtok(a, b);", ["banned-function"]),
    ("x = atoi(a);", ["banned-function"]),
    ("system(a);", ["banned-function"]),
    ("popen(a, b);", ["banned-function"]),
    ("x = rand();", ["banned-function"]),
    ("usleep(5);", ["banned-function"]),
    ("fgets(a, 1, f); snprintf(a, 1, b); x->system(a); strand(1);", []),
    ("/* system(a) */ puts(\"atoi(x)\");", []),
    ("typedef struct x x;", ["typedef-struct"]),
    ("struct x x;", []),
    ("int a; // TODO: more", ["unfinished"]),
    ("int a; ", ["trailing-space"]),
])
def test_a_line_of_c(code, expected):
    assert rules("src/io/x.c", f"/* What it does. */\n{code}\n") == expected


def test_a_banned_function_is_fine_where_it_is_the_job_or_has_a_reason():
    assert rules("src/launch/x.c", "/* What it does. */\nsleep(1);\n") == []
    assert rules("src/launch/x.c", "/* What it does. */\nsystem(1);\n") == ["banned-function"]
    assert rules("tests/unit/x.c", "/* What it does. */\nsystem(1);\n") == []
    assert rules("src/io/x.c", "/* What it does. */\n/* Fine here: no loop runs yet. */\nsleep(1);\n") == []
    assert rules("src/io/x.c", "/* What it does. */\n/* Fine here: no loop. */\nint x;\nsleep(1);\n") == ["banned-function"]


def test_a_long_file_says_why():
    long = "/* What it does. */\n" + "int x;\n" * style.LONGEST
    assert rules("src/io/x.c", long) == ["long-file"]
    assert rules("src/io/x.c", long + "/* Long because: one table. */\n") == []


def test_a_header_opens_with_a_comment_and_has_its_guard():
    good = "/* What it is. */\n#ifndef ASSAY_IO_X_H\n#define ASSAY_IO_X_H\n#endif\n"
    assert rules("src/io/x.h", good) == []
    assert rules("src/io/x.h", good.split("\n", 1)[1]) == ["opening-comment"]
    assert rules("src/io/x.h", good.replace("IO_X", "X")) == ["header-guard"]
    assert rules("src/io/x.h", "/* What it is. */\n#pragma once\n") == ["header-guard"]
    assert rules("include/assay/store.h", "/* What it is. */\n#ifndef ASSAY_STORE_H\n#define ASSAY_STORE_H\n#endif\n") == []


def test_a_c_file_opens_with_a_comment_unless_its_header_does():
    assert rules("src/io/x.c", "int x;\n") == ["opening-comment"]
    assert rules("src/io/x.c", "int x;\n", has_header=True) == []


@pytest.mark.skipif(not shutil.which("clang-tidy-19"), reason="clang-tidy-19 is not installed")
@pytest.mark.parametrize("code, status", [
    ("int f(int *p) { return p ? 0 : *p; }", 1),
    ("int f(int *p) { return p ? *p : 0; }", 0),
])
def test_clang_tidy_fails_on_a_mistake(tmp_path, code, status):
    path = tmp_path / "x.c"
    path.write_text(code + "\n")
    command = ["clang-tidy-19", "--quiet", f"--config-file={ROOT}/.clang-tidy", str(path), "--"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == status


HARD = ["-O2", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-fPIE", "-pie", "-Wl,-z,relro,-z,now,-z,noexecstack"]


@pytest.mark.parametrize("options, missing", [
    ([], []),
    (["-static-pie"], []),
    (["-no-pie", "-fno-pie"], ["PIE"]),
    (["-Wl,-z,norelro"], ["RELRO"]),
    (["-Wl,-z,lazy"], ["immediate binding"]),
    (["-Wl,-z,execstack"], ["stack that is not executable"]),
    (["-fno-stack-protector"], ["stack protector"]),
    (["-U_FORTIFY_SOURCE"], ["_FORTIFY_SOURCE"]),
])
def test_hardening_is_read_from_the_program(tmp_path, options, missing):
    source = tmp_path / "x.c"
    source.write_text("#include <stdio.h>\n#include <string.h>\n"
                      "int main(int c, char **v) { char b[64]; strcpy(b, v[c - 1]); return puts(b); }\n")
    subprocess.run(["gcc", "-U_FORTIFY_SOURCE", *HARD, *options, "-o", tmp_path / "x", source], check=True)
    assert hardening.faults(tmp_path / "x") == missing


@pytest.mark.skipif(not shutil.which("clang-tidy-19"), reason="clang-tidy-19 is not installed")
def test_tidy_remembers_what_was_clean_only(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(tidy, "CACHE", str(cache))
    monkeypatch.setattr(tidy, "ROOT", str(tmp_path))
    (tmp_path / ".clang-tidy").write_text("Checks: '-*,bugprone-suspicious-semicolon'\nWarningsAsErrors: '*'\n")
    (tmp_path / "compile_commands.json").write_text("[]")
    entry = {"directory": str(tmp_path), "file": "x.c", "command": "gcc -MD -MQ x.o -MF x.d -o x.o -c x.c"}
    for code, findings, remembered in (("if (a) ; a++;", True, 0), ("a++;", False, 1), ("if (a) ; a++;", True, 1)):
        (tmp_path / "x.c").write_text(f"int f(int a) {{ {code} return a; }}\n")
        for _ in range(2):
            assert ("suspicious-semicolon" in tidy.check(entry, b"")) == findings
        assert len(os.listdir(cache)) == remembered
