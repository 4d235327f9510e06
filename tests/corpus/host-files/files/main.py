import glob
import os

secret = ["/etc/shadow", "/etc/ssh", "/etc/hostname.real", "/root", "/home", "/var/lib", "/var/log", "/run", "/sys", "/mnt", "/opt",
          "/srv", "/boot", "/proc/1/environ", "/proc/1/mem", "/proc/1/root/etc/shadow", "/proc/1/cwd/..", "/proc/1/fd/3",
          "/proc/kcore", "/proc/kmsg", "/dev/sda", "/dev/vda", "/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/kvm"]
for path in secret:
    try:
        if os.path.isdir(path):
            print("lists", path, os.listdir(path))
        else:
            with open(path, "rb") as file:
                print("reads", path, file.read(10))
    except OSError:
        pass
for path in os.listdir("/"):
    if path not in "bin box dev etc lib lib32 lib64 libx32 proc sbin tmp usr var".split():
        print("sees", path)
for line in open("/etc/passwd"):
    if line.split(":")[0] not in ("root", "user", "nobody"):
        print("knows", line)
try:
    if glob.glob("/proc/1/fd/*"):
        print("sees descriptors of process 1")
except OSError:
    pass
print("nothing")
