#!/usr/bin/python3
"""What neither the compiler nor clang-format sees: each finding is one line with the name of its rule.

usage: style.py [FILE…]   (without arguments all C files of the tree)

  banned-function   a function that overflows, hides state or errors, or blocks the loop (not in tests/); a comment
                    `/* Fine here: … */` in this line or the one above says why it may stand
  typedef-struct    structs are named `struct x` where they are used
  unfinished        a note that something is left to do
  trailing-space    space at a line's end
  long-file         more than 1,000 lines without a comment `/* Long because: … */`
  header-guard      a header without an #ifndef/#define pair named after its path
  opening-comment   a file that does not open with what it is and does, and has no header of its name that does
"""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LONGEST = 1000
BANNED = {
    "strcpy": "no bound; use struct bytes or struct buffer",
    "strcat": "no bound; use struct buffer",
    "stpcpy": "no bound; use struct buffer",
    "sprintf": "no bound; use snprintf or buffer_printf",
    "vsprintf": "no bound; use vsnprintf",
    "gets": "no bound",
    "strtok": "hidden state",
    "atoi": "hides errors; use the parsers of base/text.h",
    "atol": "hides errors; use the parsers of base/text.h",
    "atof": "hides errors; use the parsers of base/text.h",
    "system": "runs a shell and blocks",
    "popen": "runs a shell and blocks",
    "rand": "hidden state, and guessable",
    "sleep": "blocks the loop; use a timer",
    "usleep": "blocks the loop; use a timer",
    "nanosleep": "blocks the loop; use a timer",
}
WAITING = {"sleep", "usleep", "nanosleep"}  # fine where waiting is a program's job
WAITERS = ("src/wrap/", "src/launch/", "src/cli/")
EXCUSE = "/* Fine here: "
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
# Comments and literals, so that words in them are not taken for code; new lines stay for the line numbers.
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def findings(path, text, has_header=False):
    """Yields (line, rule, message) for the text of a C file; path is the one below the root; has_header says that
    a header of the same name stands beside it."""
    lines = text.split("\n")
    code = NOT_CODE.sub(blank, text).split("\n")
    for number, (line, bare) in enumerate(zip(lines, code), 1):
        excused = EXCUSE in line or (number > 1 and EXCUSE in lines[number - 2]) or path.startswith("tests/")
        for match in BANNED_CALL.finditer(bare):
            name = match.group(1)
            if not excused and not (name in WAITING and path.startswith(WAITERS)):
                yield number, "banned-function", f"{name}: {BANNED[name]}"
        if re.search(r"\btypedef\s+(struct|union)\b", bare):
            yield number, "typedef-struct", "write `struct x` where it is used"
        if UNFINISHED.search(line):
            yield number, "unfinished", "finish it, or file an issue"
        if line != line.rstrip():
            yield number, "trailing-space", "space at the end of the line"
    if len(lines) > LONGEST + 1 and "/* Long because:" not in text:
        yield LONGEST + 1, "long-file", f"{len(lines) - 1} lines; split it by noun or say `/* Long because: …`"
    if not text.startswith("/*") and not has_header and not path.startswith("tests/"):
        yield 1, "opening-comment", "open with a comment that says what this file is and does"
    if path.endswith(".h"):
        guard = re.search(r"^#ifndef (\w+)\n#define (\w+)$", text, re.M)
        wanted = guard_name(path)
        if not guard or guard.group(1) != wanted or guard.group(2) != wanted:
            yield 1, "header-guard", f"guard it with #ifndef {wanted} and #define {wanted}"


def guard_name(path):
    """include/assay/store.h -> ASSAY_STORE_H, src/base/text.h -> ASSAY_BASE_TEXT_H."""
    name = re.sub(r"^(include/assay|include|src)/", "", path)
    return "ASSAY_" + re.sub(r"\W", "_", name).upper()


def tree():
    for top in ("include", "src", "tests"):
        for directory, names, entries in os.walk(os.path.join(ROOT, top)):
            # The corpus holds users' programs, which are as they are.
            names[:] = sorted(name for name in names if name != "corpus")
            for entry in sorted(entries):
                if entry.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(directory, entry), ROOT)


def main():
    count = 0
    for path in sys.argv[1:] or tree():
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            text = file.read()
        has_header = path.endswith(".c") and os.path.exists(os.path.join(ROOT, path[:-2] + ".h"))
        for number, rule, message in findings(path, text, has_header):
            print(f"{path}:{number}: {message} [{rule}]", file=sys.stderr)
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
