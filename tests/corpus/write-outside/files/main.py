import os

for path in ("/x", "/usr/x", "/usr/bin/x", "/etc/x", "/etc/passwd", "/bin/x", "/lib/x", "/dev/x", "/var/x", "/proc/sys/kernel/hostname",
             "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/1/oom_score_adj", "/proc/self/exe", "/sys/x"):
    try:
        with open(path, "w") as file:
            file.write("x")
        print("wrote", path)
    except OSError:
        pass
for call in (lambda: os.mkdir("/y"), lambda: os.rename("/etc", "/e"), lambda: os.chmod("/usr/bin/env", 0o777), lambda: os.unlink("/bin"),
             lambda: os.mknod("sda", 0o60600, os.makedev(8, 0)), lambda: os.chown("main.py", 0, 0), lambda: os.chroot("/tmp")):
    try:
        call()
        print("did it")
    except OSError:
        pass
print("nothing")
