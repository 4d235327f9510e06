"""Certificates for the tests, by an authority that is made for each."""

import subprocess


class Authority:
    def __init__(self, directory, name):
        self.certificate, self.key = str(directory / f"{name}.crt"), str(directory / f"{name}.key")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                      "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-out", self.certificate,
                      "-keyout", self.key)
        self.made = 0

    @staticmethod
    def _openssl(*words):
        subprocess.run(["openssl", *words], check=True, stderr=subprocess.DEVNULL)

    def issue(self):
        """(certificate's file, key's) for 127.0.0.1."""
        self.made += 1
        base = f"{self.certificate}-{self.made}"
        with open(base + ".ext", "w", encoding="ascii") as file:
            file.write("subjectAltName=IP:127.0.0.1\n")
        self._openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
                      "/CN=127.0.0.1", "-out", base + ".csr", "-keyout", base + ".key")
        self._openssl("x509", "-req", "-in", base + ".csr", "-CA", self.certificate, "-CAkey", self.key, "-set_serial",
                      str(self.made), "-days", "1", "-extfile", base + ".ext", "-out", base + ".crt")
        return {"certificate": base + ".crt", "key": base + ".key"}
