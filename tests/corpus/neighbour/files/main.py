import os

for name in os.listdir("/proc"):
    if name.isdigit() and int(name) not in (1, os.getpid()):
        print("sees", name)
for pid in range(2, 70000):
    if pid != os.getpid():
        try:
            os.kill(pid, 0)
            print("could signal", pid)
        except ProcessLookupError:
            pass
        except PermissionError:
            print("knows of", pid)
for path in ("/proc/sysvipc/shm", "/proc/sysvipc/msg", "/proc/sysvipc/sem"):
    if len(open(path).readlines()) > 1:
        print("sees memory of others", path)
with open("/proc/net/unix") as file:
    if len(file.readlines()) > 1:
        print("sees sockets of others")
print("alone")
