import os

os.close(0)
try:
    os.read(0, 1)
except OSError:
    print("closed")
