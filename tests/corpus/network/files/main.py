import socket

targets = [("1.1.1.1", 80), ("169.254.169.254", 80), ("10.0.0.1", 22), ("172.17.0.1", 2375), ("127.0.0.1", 8090)]
for address in targets:
    try:
        socket.create_connection(address, timeout=2)
        print("reached", address)
    except OSError:
        pass
try:
    socket.getaddrinfo("example.org", 80)
    print("resolved")
except OSError:
    pass
for family, target in ((40, (2, 1024)), (17, None), (38, None), (31, None)):  # vsock, packet, alg, bluetooth
    try:
        socket.socket(family, socket.SOCK_STREAM if family == 40 else socket.SOCK_RAW)
        print("has a socket of family", family)
    except OSError:
        pass
print("no network")
