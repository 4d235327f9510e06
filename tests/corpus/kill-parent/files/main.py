import os
import signal

for number in range(1, 65):
    try:
        os.kill(1, number)
    except OSError:
        pass
for pid in (os.getppid(), -1):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
print("alive")
