import os

print("before", flush=True)
while True:
    os.write(2, b"x" * 65536)
