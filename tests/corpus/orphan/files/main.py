import os
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(100000)  # with standard output open
    os._exit(0)
os.wait()
print("main is done")
