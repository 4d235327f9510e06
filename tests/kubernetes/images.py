"""Container images made of files of this machine, without any registry: archives that `ctr images import` takes.

An image holds a program as it is installed here, with the libraries that it is linked with. Those under the names of the
language file stand in for the official images, so that what the service starts by default runs at once."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile

import yaml

from kubernetes import dockerfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAUSE = "localhost/pause:1"  # keeps a pod's namespaces
BUSYBOX = "localhost/busybox:1"  # a shell and the usual tools, a megabyte
APPLETS = ("sh", "cat", "chmod", "cp", "date", "dd", "echo", "env", "false", "head", "id", "kill", "ls", "mkdir", "mv", "nc",
           "ps", "rm", "sed", "seq", "sleep", "stat", "sync", "tail", "tee", "test", "touch", "true", "wc", "wget", "yes")
# Of the standard library, what no program in a container asks for.
NOT_PACKED = re.compile(r"/(test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|pydoc_data|config-[^/]*|dist-packages)$")


def image_of(language):
    """The image that the language file gives."""
    with open(os.path.join(ROOT, "src/task/languages.yaml"), encoding="utf-8") as file:
        return yaml.safe_load(file)[language]["image"]


class Image:
    """A root file system of one layer. The same files give the same image."""

    def __init__(self, name, entrypoint=None, command=None, env=("PATH=/usr/local/bin:/usr/bin:/bin",), user=""):
        self.name = name
        self.config = {"Env": list(env), "Entrypoint": entrypoint, "Cmd": command, "User": user, "WorkingDir": "/"}
        self.layer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.layer, mode="w", format=tarfile.GNU_FORMAT)
        self.paths = set()
        for name in ("tmp", "proc", "sys", "dev", "etc", "root", "home"):
            self._directory(name)
        self.add_bytes("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
        self.add_bytes("etc/group", b"root:x:0:\nnogroup:x:65534:\n")

    def _entry(self, path, kind, mode, size=0):
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.size = kind, mode, size
        return entry

    def _directory(self, path):
        if path and path not in self.paths:
            self._directory(os.path.dirname(path))
            self.paths.add(path)
            self.tar.addfile(self._entry(path, tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755))

    def _free(self, path):
        """The path as it stands in an archive, its directory made; None where it is taken already."""
        path = path.strip("/")
        if path in self.paths:
            return None
        self._directory(os.path.dirname(path))
        self.paths.add(path)
        return path

    def add_bytes(self, path, content, mode=0o644):
        path = self._free(path)
        if path:
            self.tar.addfile(self._entry(path, tarfile.REGTYPE, mode, len(content)), io.BytesIO(content))
        return self

    def add_link(self, path, target):
        path = self._free(path)
        if path:
            entry = self._entry(path, tarfile.SYMTYPE, 0o777)
            entry.linkname = target
            self.tar.addfile(entry)
        return self

    def add(self, path, source=None):
        """A file of this machine; `source` where it lies elsewhere."""
        source = source or path
        with open(source, "rb") as file:
            return self.add_bytes(path, file.read(), os.stat(source).st_mode & 0o777)

    def add_program(self, path, source=None):
        """The same with the libraries that it needs."""
        self.add(path, source)
        return self.add_libraries(source or path)

    def add_libraries(self, *programs):
        told = subprocess.run(["ldd", *programs], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, text=True)
        for library in sorted(set(re.findall(r"(?:=>|^)\s*(/\S+) \(0x", told.stdout, re.M))):
            self.add(library)
        return self

    def add_tree(self, top):
        objects = []
        for directory, names, files in os.walk(top):
            names[:] = sorted(name for name in names if not NOT_PACKED.search(f"{directory}/{name}"))
            for name in sorted(files):
                path = os.path.join(directory, name)
                if os.path.islink(path):
                    if os.path.exists(path):
                        self.add(path, os.path.realpath(path))
                else:
                    self.add(path)
                if ".so" in name:
                    objects.append(path)
        return self.add_libraries(*objects) if objects else self

    def add_busybox(self, busybox):
        self.add("bin/busybox", busybox)
        for applet in APPLETS:
            self.add_link(f"bin/{applet}", "busybox")
        return self

    def write(self, file):
        """As an archive that containerd imports."""
        self.tar.close()
        layer = self.layer.getvalue()
        config = json.dumps({
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux", "config": self.config, "history": [],
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode()
        name = hashlib.sha256(config).hexdigest() + ".json"
        manifest = json.dumps([{"Config": name, "RepoTags": [self.name], "Layers": ["layer.tar"]}]).encode()
        with tarfile.open(fileobj=file, mode="w|") as archive:
            for path, content in ((name, config), ("layer.tar", layer), ("manifest.json", manifest)):
                archive.addfile(self._entry(path, tarfile.REGTYPE, 0o644, len(content)), io.BytesIO(content))


def pause(busybox):
    return Image(PAUSE, entrypoint=["/bin/busybox", "sleep", "2147483647"]).add("bin/busybox", busybox)


def busybox_image(busybox):
    return Image(BUSYBOX, command=["sh"]).add_busybox(busybox)


def bash_image(busybox):
    """bash where Debian has it and where the official image has it."""
    image = Image(image_of("bash"), command=["bash"]).add_program("/bin/bash", os.path.realpath("/bin/bash"))
    image.add_link("usr/local/bin/bash", "/bin/bash").add_link("usr/bin/env", "/bin/env")
    return image.add_busybox(busybox)


def python_image(busybox):
    """The machine's own python3, likewise."""
    program = os.path.realpath("/usr/bin/python3")
    image = Image(image_of("python"), command=["python3"]).add_program(program)
    for link in ("usr/bin/python3", "usr/local/bin/python3", "usr/local/bin/python"):
        image.add_link(link, program)
    image.add_link("usr/bin/env", "/bin/env")
    return image.add_tree(sysconfig.get_path("stdlib")).add_busybox(busybox)


def service_image(name, build, busybox):
    """What deploy/Dockerfile makes, of the programs in the directory `build`; the busybox has what it takes from Debian."""
    stage = dockerfile.last_stage()
    image = Image(name, entrypoint=stage.entrypoint, env=["PATH=/usr/bin:/bin", *stage.env], user=stage.user)
    for path, program in stage.programs.items():
        image.add_program(path, os.path.join(build, program))
    return image.add_busybox(busybox)


if __name__ == "__main__":
    made = {"pause": pause, "busybox": busybox_image, "bash": bash_image, "python": python_image}[sys.argv[1]](sys.argv[2])
    made.write(sys.stdout.buffer)
