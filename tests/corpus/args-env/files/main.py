import os
import sys

print(sys.argv[1:])
print(os.environ["GREETING"], os.environ["HOME"])
