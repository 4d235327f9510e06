#!/usr/bin/env python3
"""Puts a file into the program: writes a C source that defines its bytes.

usage: embed.py FILE SYMBOL OUTPUT

The source defines `const char SYMBOL[]`, terminated, and `const size_t SYMBOL_size`, without the terminator.
"""
import sys

path, symbol, output = sys.argv[1:]
with open(path, "rb") as file:
    content = file.read() + b"\0"
lines = [", ".join(f"{byte if byte < 128 else byte - 256}" for byte in content[i : i + 20]) for i in range(0, len(content), 20)]
with open(output, "w", encoding="ascii") as file:
    file.write("#include <stddef.h>\n\n")
    file.write(f"extern const char {symbol}[];\nextern const size_t {symbol}_size;\n\n")
    file.write(f"const char {symbol}[] = {{\n" + ",\n".join(lines) + "\n};\n")
    file.write(f"const size_t {symbol}_size = {len(content) - 1};\n")
