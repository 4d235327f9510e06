import os

if os.fork() == 0:
    hog = []
    while True:
        hog.append(bytearray(1 << 20))
os.wait()
