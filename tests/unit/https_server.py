#!/usr/bin/python3
"""HTTPS servers for the test of the HTTP client: one on a free port of 127.0.0.1, and one that wants a client's certificate.

https_server.py DIR: writes ca.pem, client.pem, client.key and client-locked.key, which wants a pass phrase, into DIR, prints the two ports, serves until standard input ends."""

import http.server
import os
import ssl
import subprocess
import sys
import threading


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificate(directory, name, subject, *extensions):
    key, request, certificate = (os.path.join(directory, name + end) for end in (".key", ".csr", ".pem"))
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-subj", subject]
    if name == "ca":
        openssl("req", "-x509", *new, "-days", "2", "-out", certificate)
        return
    openssl("req", *new, "-out", request)
    more = os.path.join(directory, name + ".ext")
    with open(more, "w", encoding="ascii") as file:
        file.write("\n".join(extensions) + "\n")
    ca = os.path.join(directory, "ca")
    openssl("x509", "-req", "-in", request, "-CA", ca + ".pem", "-CAkey", ca + ".key", "-CAcreateserial", "-days", "2",
            "-extfile", more, "-out", certificate)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("X-Host", self.headers["Host"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, *_):
        pass


def serve(directory, client_ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(directory, "server.pem"), os.path.join(directory, "server.key"))
    if client_ca:
        context.load_verify_locations(os.path.join(directory, "ca.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # refused handshakes are what the test is about
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def main():
    directory = sys.argv[1]
    certificate(directory, "ca", "/CN=test authority")
    certificate(directory, "server", "/CN=server", "subjectAltName=DNS:localhost")
    certificate(directory, "client", "/CN=client", "extendedKeyUsage=clientAuth")
    key = os.path.join(directory, "client")
    openssl("pkey", "-in", key + ".key", "-aes-128-cbc", "-passout", "pass:secret", "-out", key + "-locked.key")
    print(serve(directory, False), serve(directory, True), flush=True)
    sys.stdin.read()


main()
