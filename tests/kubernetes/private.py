"""A private Kubernetes: etcd, API server, controller manager, scheduler, and a real node (containerd, runc, kubelet).

All of it lives in namespaces of its own (keeper.sh), with a directory, an interface and control groups of its own, so that
any number may run at a time, nothing of the machine is changed, and all of it ends when the one process ends that
everything depends on. The machine reaches the cluster at one address (the API server at port 6443, pods by a route), and
pods reach the machine at another, `host_address`; neither is to be had from outside. It takes root.

    with PrivateCluster() as cluster:
        cluster.admin.list("nodes")
"""

import concurrent.futures
import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import servers
from kubernetes import client, images

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = 120  # seconds until it runs; only against hanging for ever
NODE = "node1"
SERVICE_ADDRESSES = "10.96.0.0/16"
# Set apart for measurements between networks: no machine has them as addresses of its own.
LINKS, PODS = "198.18.{}", "198.19.{}"
# What a lost node costs: a test does not wait the 40 s that are usual, and a slow machine is not lost.
GRACE_S = 12


class Missing(Exception):
    """What it takes is not on this machine; why not."""


def programs():
    """The directory that build.sh makes."""
    return subprocess.run([os.path.join(HERE, "build.sh"), "--where"], stdout=subprocess.PIPE, check=True,
                          text=True).stdout.strip()


def check_possible():
    """Raises Missing where no private cluster can be started here."""
    if not os.path.isdir(programs()):
        told = subprocess.run([os.path.join(HERE, "build.sh"), "--possible"], stdout=subprocess.PIPE, check=False, text=True)
        raise Missing(told.stdout.strip() or "Kubernetes is not built; ./dev kubernetes build does it")
    if os.geteuid() != 0:
        raise Missing("a private Kubernetes takes root; ASSAY_TEST_KUBECONFIG names a cluster")


# ---- processes, by what /proc says ----


def started_at(pid):
    """When it was started, in the kernel's ticks, which tells it from a later process of the same number; None where it has
    ended, waited for or not."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    return None


def child_of(pid):
    """Its one child, waited for; None where it ends without."""
    while started_at(pid) is not None:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                children = file.read().split()
            if children:
                return int(children[0])
        time.sleep(0.005)
    return None


def wait_ended(pid, patience=PATIENCE):
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        ready, _, _ = select.select([descriptor], [], [], patience)
        os.close(descriptor)
        if not ready:
            raise RuntimeError(f"process {pid} does not end")


class Component:
    """One program of the cluster: `etcd`, `apiserver`, `controller-manager`, `scheduler`, `containerd` or `kubelet`."""

    def __init__(self, cluster, name, *command):
        self.cluster, self.name, self.command = cluster, name, command
        self.log = os.path.join(cluster.directory, "log", name)
        self.process = None  # nsenter, which waits for the program

    def start(self):
        with open(self.log, "ab") as log:
            self.process = self.cluster.spawn(*self.command, stdout=log, stderr=log)
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        """The program's own, as this machine sees it."""
        return child_of(self.process.pid)

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def signal(self, number):
        pid = self.pid
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop(self):
        """An orderly end."""
        self.signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def pause(self):
        """It stops answering, and its connections stay open."""
        pid = self.pid
        if pid:
            servers.freeze(pid)

    def resume(self):
        self.signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGCONT)  # nsenter stops with its child


class PrivateCluster:
    """A context manager. `stays`: it goes on when this process ends, until `end(directory)`."""

    def __init__(self, stays=False):
        check_possible()
        self.programs = programs()
        self.directory = tempfile.mkdtemp(prefix="assay-kubernetes-", dir="/tmp")  # sockets' paths must be short
        os.chmod(self.directory, 0o711)
        for name in ("etcd", "log", "pki", "programs", "sysctl", "cni", "kubelet", "containerd", "plugins"):
            os.mkdir(self.path(name))
        self.stays = stays
        self.cgroup = os.path.basename(self.directory)
        self.tokens = {name: secrets.token_hex(16) for name in ("admin", "controller-manager", "scheduler", NODE, "assay")}
        self.keeper = self.inner = self.link = None
        self.components = {}
        self.admin = None

    def path(self, *names):
        return os.path.join(self.directory, *names)

    # ---- addresses ----

    @property
    def host_address(self):
        """Where pods find this machine."""
        return LINKS.format(self.link) + ".1"

    @property
    def address(self):
        """The node's and the control plane's."""
        return LINKS.format(self.link) + ".2"

    @property
    def url(self):
        return f"https://{self.address}:6443"

    @property
    def ca(self):
        return self.path("pki", "ca.crt")

    # ---- starting ----

    def start(self):
        try:
            self._make_namespaces()
            with concurrent.futures.ThreadPoolExecutor() as pool:
                # etcd and containerd need nothing; the API server waits for etcd by itself.
                self._make_certificates()
                self._write_tokens()
                for name in ("etcd", "apiserver", "containerd"):
                    self.components[name] = Component(self, name, *getattr(self, "_" + name)()).start()
                importing = [pool.submit(self._import, make) for make in (
                    images.pause, images.busybox_image, images.bash_image, images.python_image)]
                self.admin = client.Api(self.url, self.ca, self.tokens["admin"])
                self.wait_api_server()
                for name in ("controller_manager", "scheduler", "kubelet"):
                    name, command = name.replace("_", "-"), getattr(self, "_" + name)()
                    self.components[name] = Component(self, name, *command).start()
                self._wait_node()
                for each in importing:
                    each.result()
            if self.stays:
                # One of its own holds open what keeps it.
                self.spawn("sleep", "infinity", stdout=self.keeper.stdin, stderr=subprocess.DEVNULL)
            return self
        except BaseException:
            self.stop()
            raise

    def _make_namespaces(self):
        with open(self.path("log", "keeper"), "ab") as log:
            self.keeper = subprocess.Popen(
                [os.path.join(HERE, "keeper.sh"), self.directory, self.programs, self.cgroup], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, start_new_session=True, cwd="/", env=self._environment())
        if self.keeper.stdout.readline() != b"ready\n":
            raise RuntimeError("no namespaces: " + self._log_of("keeper"))
        self.inner = child_of(child_of(self.keeper.pid))
        with open(self.path("keeper.json"), "w", encoding="ascii") as file:
            json.dump({name: [pid, started_at(pid)] for name, pid in (
                ("keeper", self.keeper.pid), ("inner", self.inner))}, file)
        self._make_groups()
        self._make_link()

    def _log_of(self, name):
        with open(self.path("log", name), encoding="utf-8", errors="replace") as file:
            return file.read()[-4000:]

    def _environment(self):
        return {"PATH": self.path("programs") + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.directory,
                "LC_ALL": "C.UTF-8"}

    def _make_groups(self):
        """kubelet wants the group that all of its own are below to be there."""
        top = "/sys/fs/cgroup"
        if os.path.exists(f"{top}/cgroup.controllers"):
            for where in (top, f"{top}/{self.cgroup}"):
                os.makedirs(where, exist_ok=True)
                with open(f"{where}/cgroup.controllers", encoding="ascii") as file:
                    controllers = file.read().split()
                with open(f"{where}/cgroup.subtree_control", "w", encoding="ascii") as file:
                    file.write(" ".join("+" + name for name in controllers))
            return
        for hierarchy in os.listdir(top):
            parent, group = f"{top}/{hierarchy}", f"{top}/{hierarchy}/{self.cgroup}"
            if os.path.islink(parent) or not os.path.exists(f"{parent}/cgroup.procs"):
                continue
            os.makedirs(group, exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if os.path.exists(f"{group}/{name}"):
                    with open(f"{parent}/{name}", encoding="ascii") as theirs, \
                            open(f"{group}/{name}", "w", encoding="ascii") as ours:
                        ours.write(theirs.read())

    def _make_link(self):
        """A pair of interfaces between the machine and the cluster; whoever makes one of a name has its addresses."""
        def ip(*words, inside=False):
            prefix = ["nsenter", f"--net=/proc/{self.inner}/ns/net", "--"] if inside else []
            return subprocess.run([*prefix, "ip", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                                  text=True)

        taken = None
        for number in range(256):
            taken = ip("link", "add", f"assay-k{number}", "type", "veth", "peer", "name", "eth0", "netns", str(self.inner))
            if taken.returncode == 0:
                self.link = number
                break
        else:
            raise RuntimeError(f"no interface could be made: {taken.stderr}")
        interface = f"assay-k{self.link}"
        for words, inside in (
                (("addr", "add", self.host_address + "/30", "dev", interface), False),
                (("link", "set", interface, "up"), False),
                (("link", "set", "lo", "up"), True),
                (("addr", "add", self.address + "/30", "dev", "eth0"), True),
                (("link", "set", "eth0", "up"), True),
                (("route", "add", "default", "via", self.host_address), True),
                (("route", "add", PODS.format(self.link) + ".0/24", "via", self.address), False)):
            done = ip(*words, inside=inside)
            if done.returncode != 0:
                raise RuntimeError(f"ip {' '.join(words)}: {done.stderr}")

    def spawn(self, *command, **keywords):
        """A process in the cluster's namespaces, as root there."""
        return subprocess.Popen(
            ["nsenter", "--target", str(self.inner), "--mount", "--pid", "--net", "--ipc", "--", *command],
            **{"stdin": subprocess.DEVNULL, "start_new_session": True, "cwd": "/", "env": self._environment(), **keywords})

    def _make_certificates(self):
        self.certificate("ca", "/CN=assay-tests", ca=True)
        addresses = f"IP:127.0.0.1,IP:{self.address},IP:10.96.0.1"
        self.certificate("apiserver", "/CN=kube-apiserver", "serverAuth",
                         "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc," + addresses)
        self.certificate("apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client", "clientAuth")
        self.certificate("kubelet", f"/CN={NODE}", "serverAuth", f"DNS:{NODE},{addresses}")
        self.certificate("assay", "/CN=assay", "clientAuth")
        self._openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", self.path("pki", "accounts.key"))
        self._openssl("ec", "-in", self.path("pki", "accounts.key"), "-pubout", "-out", self.path("pki", "accounts.pub"))

    @staticmethod
    def _openssl(*words):
        subprocess.run(["openssl", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    def certificate(self, name, subject, usage=None, names=None, ca=False, days=30):
        """pki/NAME.crt and .key, signed by the cluster's authority; returns both paths."""
        key, request, made, options = (self.path("pki", name + end) for end in (".key", ".csr", ".crt", ".ext"))
        self._openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", key)
        if ca:
            self._openssl("req", "-x509", "-new", "-key", key, "-subj", subject, "-days", str(days), "-out", made,
                          "-addext", "basicConstraints=critical,CA:TRUE",
                          "-addext", "keyUsage=critical,keyCertSign,digitalSignature")
            return made, key
        with open(options, "w", encoding="ascii") as file:
            file.write("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyEncipherment\n"
                       f"extendedKeyUsage={usage}\n" + (f"subjectAltName={names}\n" if names else ""))
        self._openssl("req", "-new", "-key", key, "-subj", subject, "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.path("pki", "ca.key"),
                      "-set_serial", str(secrets.randbits(63)), "-days", str(days), "-extfile", options, "-out", made)
        return made, key

    def _write_tokens(self):
        users = {"admin": ("admin", "system:masters"), "controller-manager": ("system:kube-controller-manager", ""),
                 "scheduler": ("system:kube-scheduler", ""), NODE: (f"system:node:{NODE}", "system:nodes"),
                 "assay": ("assay", "")}
        with open(os.open(self.path("tokens.csv"), os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            for name, (user, group) in users.items():
                file.write(f"{self.tokens[name]},{user},{name},\"{group}\"\n")
        for name in users:
            self.kubeconfig(name)

    def kubeconfig(self, user, namespace="default"):
        return client.write_kubeconfig(self.path(user + ".kubeconfig"), self.url, self.ca, self.tokens[user],
                                       namespace=namespace)

    def _import(self, make):
        """Into containerd's store, when that answers."""
        socket_path = self.path("containerd.sock")
        making = subprocess.Popen([sys.executable, "-c", "import sys; from kubernetes import images; "
                                   f"images.{make.__name__}(sys.argv[1]).write(sys.stdout.buffer)",
                                   os.path.join(self.programs, "busybox")],
                                  stdout=subprocess.PIPE, cwd=os.path.dirname(HERE))
        with making.stdout:
            self._wait(lambda: os.path.exists(socket_path), "containerd")
            self.import_image(making.stdout)
        if making.wait() != 0:
            raise RuntimeError(f"{make.__name__} failed")

    def import_image(self, archive):
        """Gives the node an image: a file object with an archive, as images.Image.write() makes it."""
        importing = self.spawn("ctr", "--address", self.path("containerd.sock"), "--namespace", "k8s.io",
                               "images", "import", "-", stdin=archive, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, errors = importing.communicate()
        if importing.returncode != 0:
            raise RuntimeError(f"the image was not taken: {errors.decode()}")

    def add_image(self, image):
        """An images.Image."""
        with tempfile.TemporaryFile() as file:
            image.write(file)
            file.seek(0)
            self.import_image(file)

    # ---- waiting ----

    def _wait(self, condition, *needed):
        """Until it is true; raises where one of the components that it needs has ended."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            for name in needed:
                if name in self.components and not self.components[name].running():
                    raise RuntimeError(f"{name} ended:\n{self._log_of(name)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{needed[0]} does not start:\n{self._log_of(needed[0])}")
            time.sleep(0.02)

    def wait_api_server(self):
        """Until it says that it is ready; also after a restart."""
        asking = self.admin.another()

        def ready():
            with contextlib.suppress(OSError, client.http.client.HTTPException):
                return asking.ask("GET", "/readyz").status == 200
            return False

        self._wait(ready, "apiserver", "etcd")
        asking.close()

    def _wait_node(self):
        for name in ("controller-manager", "kubelet"):
            assert self.components[name].running(), self._log_of(name)
        try:
            self.admin.wait("nodes", node_ready)
        except (AssertionError, OSError) as error:
            raise RuntimeError(f"the node does not become ready: {error!r}\n{self._log_of('kubelet')}") from error

    # ---- the programs' settings ----

    def _etcd(self):
        return ("etcd", "--data-dir", self.path("etcd", "data"), "--logger", "zap", "--log-level", "warn",
                "--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
                "--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380",
                "--initial-cluster", "default=http://127.0.0.1:2380")

    def _apiserver(self):
        pki = self.path("pki")
        with open(self.path("audit.json"), "w", encoding="ascii") as file:
            json.dump({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
                {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
                {"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}]}, file)
        return ("kube-apiserver", "--etcd-servers", "http://127.0.0.1:2379", "--bind-address", "0.0.0.0",
                "--secure-port", "6443", "--insecure-port", "0", "--advertise-address", self.address,
                "--endpoint-reconciler-type", "none",
                "--tls-cert-file", f"{pki}/apiserver.crt", "--tls-private-key-file", f"{pki}/apiserver.key",
                "--client-ca-file", self.ca, "--token-auth-file", self.path("tokens.csv"),
                "--authorization-mode", "Node,RBAC", "--allow-privileged=true",
                "--service-account-issuer", "https://kubernetes.default.svc",
                "--service-account-key-file", f"{pki}/accounts.pub",
                "--service-account-signing-key-file", f"{pki}/accounts.key",
                "--api-audiences", "https://kubernetes.default.svc", "--service-cluster-ip-range", SERVICE_ADDRESSES,
                "--kubelet-client-certificate", f"{pki}/apiserver-kubelet.crt",
                "--kubelet-client-key", f"{pki}/apiserver-kubelet.key", "--kubelet-certificate-authority", self.ca,
                "--kubelet-preferred-address-types", "InternalIP", "--feature-gates", "TTLAfterFinished=true",
                "--audit-policy-file", self.path("audit.json"), "--audit-log-path", self.path("log", "audit"),
                "--profiling=false", "--event-ttl", "1h")

    def _controller_manager(self):
        return ("kube-controller-manager", "--kubeconfig", self.path("controller-manager.kubeconfig"),
                "--service-account-private-key-file", self.path("pki", "accounts.key"), "--root-ca-file", self.ca,
                "--use-service-account-credentials=true", "--leader-elect=false", "--port", "0", "--secure-port", "0",
                "--kube-api-qps", "1000", "--kube-api-burst", "2000", "--concurrent-job-syncs", "20",
                "--concurrent-gc-syncs", "20", "--node-monitor-period", "1s", "--node-monitor-grace-period", f"{GRACE_S}s",
                # A node of two is half of the zone: what is thought of for many would hold its eviction up, or off.
                "--node-eviction-rate", "100", "--secondary-node-eviction-rate", "100", "--large-cluster-size-threshold", "0",
                "--feature-gates", "TTLAfterFinished=true",
                "--controllers", "*,-nodeipam,-cloud-node-lifecycle,-route,-service,-persistentvolume-binder,"
                "-persistentvolume-expander,-attachdetach")

    def _scheduler(self):
        return ("kube-scheduler", "--kubeconfig", self.path("scheduler.kubeconfig"), "--leader-elect=false", "--port", "0",
                "--secure-port", "0", "--kube-api-qps", "1000", "--kube-api-burst", "2000")

    def _containerd(self):
        network = {"cniVersion": "0.4.0", "name": "pods", "plugins": [{
            "type": "bridge", "bridge": "pods", "isGateway": True, "ipMasq": False, "hairpinMode": True, "ipam": {
                "type": "host-local", "ranges": [[{"subnet": PODS.format(self.link) + ".0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}], "dataDir": self.path("addresses")}}]}
        with open(self.path("cni", "pods.conflist"), "w", encoding="ascii") as file:
            json.dump(network, file)
        with open(self.path("containerd.toml"), "w", encoding="ascii") as file:
            file.write(f"""version = 2
root = "{self.path('containerd')}"
state = "/run/containerd"
[grpc]
  address = "{self.path('containerd.sock')}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{self.path('programs', 'cni')}"
    conf_dir = "{self.path('cni')}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        BinaryName = "{self.path('programs', 'runc')}"
""")
        return "containerd", "--config", self.path("containerd.toml")

    def _kubelet(self):
        with open(self.path("resolv.conf"), "w", encoding="ascii") as file:
            file.write(f"nameserver {self.host_address}\n")
        socket_url = "unix://" + self.path("containerd.sock")
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                               "x509": {"clientCAFile": self.ca}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": self.path("pki", "kubelet.crt"), "tlsPrivateKeyFile": self.path("pki", "kubelet.key"),
            "address": self.address, "readOnlyPort": 0, "healthzBindAddress": "127.0.0.1",
            "cgroupDriver": "cgroupfs", "cgroupRoot": "/" + self.cgroup, "cgroupsPerQOS": True,
            "enforceNodeAllocatable": ["pods"], "failSwapOn": False, "makeIPTablesUtilChains": False,
            "maxPods": 200, "kubeAPIQPS": 200, "kubeAPIBurst": 400,
            "eventRecordQPS": 0, "registryPullQPS": 0, "serializeImagePulls": False, "resolvConf": self.path("resolv.conf"),
            "nodeStatusUpdateFrequency": "2s", "nodeStatusReportFrequency": "10s", "nodeLeaseDurationSeconds": GRACE_S,
            "syncFrequency": "10s", "runtimeRequestTimeout": "30s", "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
            "volumePluginDir": self.path("plugins"), "featureGates": {"TTLAfterFinished": True}}
        with open(self.path("kubelet.json"), "w", encoding="ascii") as file:
            json.dump(settings, file)
        return ("kubelet", "--config", self.path("kubelet.json"), "--kubeconfig", self.path(NODE + ".kubeconfig"),
                "--hostname-override", NODE, "--node-ip", self.address, "--root-dir", self.path("kubelet"),
                "--container-runtime", "remote", "--container-runtime-endpoint", socket_url,
                "--image-service-endpoint", socket_url, "--runtime-cgroups", "/", "--kubelet-cgroups", "/", "--v", "1")

    def asked_by(self, account):
        """What a service account has asked the API server for, as that has recorded it: audit events."""
        with open(self.path("log", "audit"), encoding="utf-8") as file:
            events = [json.loads(line) for line in file if line.endswith("\n")]
        return [event for event in events if event["user"]["username"] == "system:serviceaccount:" + account]

    # ---- ending ----

    def stop(self):
        """Ends all of it, at once, and removes what it had."""
        if self.admin:
            self.admin.close()
        if self.keeper:
            self.keeper.stdin.close()
            if self.inner:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.inner, signal.SIGKILL)
            self.keeper.wait(PATIENCE)
            self.keeper.stdout.close()
            for component in self.components.values():
                if component.process:
                    component.process.wait(PATIENCE)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self if self.inner else self.start()

    def __exit__(self, *_):
        self.stop()


def node_ready(node):
    return any(condition["type"] == "Ready" and condition["status"] == "True"
               for condition in node["status"].get("conditions", []))


def runs(directory):
    """Whether the cluster of that directory is there: (keeper's pid, PID 1's) or None."""
    with contextlib.suppress(OSError, ValueError):
        with open(os.path.join(directory, "keeper.json"), encoding="ascii") as file:
            told = json.load(file)
        if all(started_at(pid) == start for pid, start in told.values()):
            return told["keeper"][0], told["inner"][0]
    return None


def end(directory):
    """Ends the cluster of that directory, whoever started it, and waits until nothing of it is left."""
    pids = runs(directory)
    if pids:
        keeper, inner = pids
        os.kill(inner, signal.SIGKILL)
        wait_ended(keeper)
    shutil.rmtree(directory, ignore_errors=True)
