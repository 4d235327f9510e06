import os

os.symlink("loop", "loop")
os.symlink("/", "root")
os.symlink("/proc/1/root", "init-root")
os.symlink("/proc/self/cwd/../../../..", "up")
os.symlink("/proc/1/fd/2", "report")
for path in ("loop", "root/etc/shadow", "root/root/.ssh", "init-root/etc/passwd", "up/etc/shadow", "report", "up/work", "root/run"):
    try:
        with open(path, "rb") as file:
            print("reads", path, file.read(10))
    except OSError:
        pass
os.rename("main.py", "elsewhere")
os.symlink("/etc/passwd", "main.py")
os.rmdir("/box/home")
os.symlink("/usr", "/box/home")
try:
    with open("/box/home/x", "w"):
        print("wrote to /usr")
except OSError:
    pass
print("nothing")
