#!/usr/bin/env python3
"""Turns SQL files into a C header: each statement a string, its number an enum constant; each numbered migration a string with its
name. Comments stay behind.

embed.py OUT.h write.sql read.sql ... schema/001_x.sql ...

Files in a folder `schema` are migrations. Of the others, NAME.sql makes `enum { NAME_…, NAME_COUNT }` and NAME_STATEMENTS: { "sql", … }, with
`--full` instead of that { "name", "sql", highest parameter number }. A piece that `-- define:` names may be used in every later file."""
import os
import re
import sys

full = "--full" in sys.argv
out, *files = [a for a in sys.argv[1:] if a != "--full"]
schema = [f for f in files if os.path.basename(os.path.dirname(f)) == "schema"]
pieces = {}


def expand(sql):
	return re.sub(r"\$([a-z_]\w*)\b(?!\$)", lambda m: expand(pieces[m.group(1)]), sql)


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


guard = "ASSAY_" + re.sub(r"\W", "_", os.path.splitext("/".join(os.path.abspath(files[0]).split("/")[-3:-1]))[0]).upper() + "_SQL_H"
lines = ["/* Made by embed.py from .sql files. */", "#ifndef " + guard, "#define " + guard, ""]
for path in files:
	if path in schema:
		continue
	prefix = os.path.basename(path)[:-4].upper()
	statements = []
	for kind, name, text in blocks(path):
		if kind == "define":
			pieces[name] = text
		else:
			statements.append((name, text))
	lines.append("enum { %s, %s_COUNT };" % (", ".join(prefix + "_" + n.upper() for n, _ in statements), prefix))
	lines.append("#define %s_STATEMENTS \\\n\t{ \\" % prefix)
	for name, text in statements:
		sql = expand(text)
		if full:
			highest = max([0] + [int(n) for n in re.findall(r"\$(\d+)", sql)])
			lines.append("\t\t{ %s, %s, %d }, \\" % (quote("assay_" + name), quote(sql), highest))
		else:
			lines.append("\t\t%s, \\" % quote(sql))
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
