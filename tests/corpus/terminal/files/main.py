import os
import pty

master, slave = pty.openpty()
os.write(slave, b"pty\n")
print(os.read(master, 100).decode().strip())
