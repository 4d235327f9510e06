import os
import sys

name = [name for name in os.listdir() if name.endswith(".txt")][0]
print(sys.argv[1], sys.argv[2], os.environ["UMLAUT"], input(), name)
print("ошибка", file=sys.stderr)
