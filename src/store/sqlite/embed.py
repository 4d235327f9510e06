#!/usr/bin/env python3
"""Turns SQL files into a C header: each statement of write.sql and read.sql a string with an enum constant, each
numbered migration a string with its number. Comments stay behind.

embed.py OUT.h write.sql read.sql schema/001_x.sql ..."""
import os
import re
import sys

out, write, read, *schema = sys.argv[1:]
pieces = {}


def expand(sql):
	return re.sub(r"\$(\w+)", lambda m: expand(pieces[m.group(1)]), sql)


def blocks(path):
	"""Yields (kind, name, text) for each `-- define: name` and `-- name: name`."""
	current = None
	for line in open(path, encoding="utf-8"):
		head = re.match(r"-- (define|name): (\w+)\s*$", line)
		if head:
			if current:
				yield current[0], current[1], " ".join(current[2])
			current = (head.group(1), head.group(2), [])
		elif line.startswith("--") or not line.strip():
			continue
		elif current:
			current[2].append(line.strip())
	yield current[0], current[1], " ".join(current[2])


def quote(text):
	return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


lines = ["/* Made by embed.py from the .sql files beside it. */", "#ifndef ASSAY_STORE_SQLITE_SQL_H",
	"#define ASSAY_STORE_SQLITE_SQL_H", ""]
for path, prefix in ((write, "WRITE"), (read, "READ")):
	statements = []
	for kind, name, text in blocks(path):
		if kind == "define":
			pieces[name] = text
		else:
			statements.append((name, text))
	lines.append("enum { %s, %s_COUNT };" % (", ".join(prefix + "_" + n.upper() for n, _ in statements), prefix))
	lines.append("#define %s_STATEMENTS \\\n\t{ \\" % prefix)
	for name, text in statements:
		lines.append("\t\t%s, \\" % quote(expand(text)))
	lines.append("\t}\n")
lines.append("#define MIGRATIONS \\\n\t{ \\")
for number, path in enumerate(sorted(schema, key=os.path.basename), 1):
	if int(os.path.basename(path)[:3]) != number:
		sys.exit("embed.py: migration %d is missing before %s" % (number, path))
	text = "".join(l for l in open(path, encoding="utf-8") if l.strip() and not l.startswith("--"))
	lines.append("\t\t{ %s, %s }, \\" % (quote(os.path.basename(path)[:-4]), quote(text)))
lines.append("\t}\n")
lines.append("#endif")
open(out, "w", encoding="utf-8").write("\n".join(lines) + "\n")
