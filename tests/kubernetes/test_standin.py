"""The faults that the stand-in makes on demand, which the real server cannot be made to show, or not at this size: that
each switch does what standin.py says. Nothing here runs against the real one."""

import http.client
import json
import socket
import select
import ssl
import subprocess
import threading
import time

import pytest

from kubernetes import client
from kubernetes.client import ApiError, Truncated, path_of, version_of
from kubernetes.cluster import StandIn, job


def refused(call, *arguments, **keywords):
    with pytest.raises(ApiError) as caught:
        call(*arguments, **keywords)
    return caught.value


def secret(name):
    return {"metadata": {"name": name}}


@pytest.mark.parametrize("status, reason", [(429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable"),
                                            (504, "Timeout"), (410, "Expired")])
def test_a_status_is_answered_so_many_times(standin, own_place, status, reason):
    standin.fault("create", "jobs", times=2, status=status, retry_after=7)
    for _ in range(2):
        error = refused(own_place.api.create, "jobs", job("a"))
        assert (error.status, error.reason, error.headers["Retry-After"]) == (status, reason, "7")
    own_place.api.create("jobs", job("a"))
    assert own_place.api.list("secrets")["items"] == []


def test_faults_are_of_their_verb_and_resource(standin, own_place):
    standin.fault("list", "pods", times=-1, status=500)
    own_place.api.list("jobs")
    own_place.api.create("secrets", secret("s"))
    assert refused(own_place.api.list, "pods").status == refused(own_place.api.list, "pods").status == 500
    standin.control("reset")
    own_place.api.list("pods")


def test_an_answer_is_late(standin, own_place):
    standin.fault("get", "secrets", delay_ms=150)
    own_place.api.create("secrets", secret("s"))
    start = time.monotonic()
    own_place.api.get("secrets", "s")
    assert time.monotonic() - start >= 0.15


@pytest.mark.parametrize("done", [False, True])
def test_a_connection_is_closed_before_or_after_it_is_done(standin, own_place, done):
    standin.fault("create", "jobs", drop=True, do_it=done)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        own_place.api.create("jobs", job("a"))
    if done:
        assert refused(own_place.api.create, "jobs", job("a")).reason == "AlreadyExists"
    else:
        own_place.api.create("jobs", job("a"))


@pytest.mark.parametrize("done", [False, True])
def test_a_request_is_held_before_or_after_it_is_done(standin, own_place, done):
    standin.fault("create", "jobs", hold=True, do_it=done)
    asking = own_place.api.another()
    thread = threading.Thread(target=asking.create, args=("jobs", job("a")))
    thread.start()
    standin.control("held")
    assert len(own_place.api.list("jobs")["items"]) == done
    standin.control("release")
    thread.join()
    assert len(own_place.api.list("jobs")["items"]) == 1
    asking.close()


def test_a_request_that_is_held_goes_with_its_client(standin, own_place):
    standin.fault("create", "jobs", hold=True)
    with socket.create_connection((own_place.api.host, own_place.api.port)) as client_side:
        body = json.dumps(job("a")).encode()
        client_side.sendall(b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (
            path_of("jobs", own_place.name).encode(), len(body), body))
        standin.control("held")
    standin.control("release")
    own_place.api.create("jobs", job("b"))
    assert [one["metadata"]["name"] for one in own_place.api.list("jobs")["items"]] == ["b"]


def test_an_error_may_be_told_of_what_was_done(standin, own_place):
    standin.fault("create", "jobs", status=504, do_it=True)
    assert refused(own_place.api.create, "jobs", job("a")).status == 504
    assert own_place.api.get("jobs", "a")


def stream_of(place, version):
    """Of two Secrets, as it comes: the bytes up to the second event's end."""
    with place.api.watch("secrets", version) as watch:
        data = b""
        while data.count(b"\n") < 2:
            data += watch.response.read1(65536)
    return data


def test_a_stream_is_cut_at_any_byte(standin, own_place):
    version = own_place.api.list("secrets")["metadata"]["resourceVersion"]
    for name in ("a", "b"):
        own_place.api.create("secrets", secret(name))
    whole = stream_of(own_place, version)
    first = whole.index(b"\n") + 1
    for at in (0, 1, first - 1, first, first + 1, *range(first + 7, len(whole), 37), len(whole) - 1):
        standin.fault("watch", "secrets", cut_after=at)
        events = []
        with own_place.api.watch("secrets", version) as watch:
            with pytest.raises(Truncated):
                for event in watch:
                    events.append(event.object["metadata"]["name"])
        assert events == (["a"] if at >= first else [])
    assert stream_of(own_place, version) == whole


def test_each_stream_is_cut_a_byte_later(standin, own_place):
    version = own_place.api.list("secrets")["metadata"]["resourceVersion"]
    for name in ("a", "b"):
        own_place.api.create("secrets", secret(name))
    first = stream_of(own_place, version).index(b"\n") + 1
    standin.fault("watch", "secrets", times=3, cut_after=first - 1, cut_step=1)
    seen = []
    for _ in range(3):
        with own_place.api.watch("secrets", version) as watch, pytest.raises(Truncated):
            seen.append(0)
            for _ in watch:
                seen[-1] += 1
    assert seen == [0, 1, 1]


def test_a_stream_comes_in_small_pieces(standin, own_place):
    version = own_place.api.list("secrets")["metadata"]["resourceVersion"]
    standin.fault("watch", "secrets", chunk=7)
    with own_place.api.watch("secrets", version) as watch:
        own_place.api.create("secrets", secret("a"))
        event = next(watch)
    assert event.object["metadata"]["name"] == "a" and max(watch.pieces) <= 7 and len(watch.pieces) > 20


def test_an_answer_comes_in_small_pieces(standin, own_place):
    own_place.api.create("secrets", secret("a"))
    standin.fault("list", "secrets", chunk=3)
    assert [item["metadata"]["name"] for item in own_place.api.list("secrets")["items"]] == ["a"]
    standin.fault("list", "secrets", cut_after=20)
    with pytest.raises(http.client.IncompleteRead):
        own_place.api.list("secrets")


def test_events_of_megabytes(standin, own_place):
    version = own_place.api.list("secrets")["metadata"]["resourceVersion"]
    standin.fault("watch", "secrets", pad=3 << 20)
    with own_place.api.watch("secrets", version) as watch:
        own_place.api.create("secrets", secret("a"))
        assert len(next(watch).object["metadata"]["annotations"]["pad"]) == 3 << 20
    assert "annotations" not in own_place.api.get("secrets", "a")["metadata"]


def test_a_watch_is_frozen_and_thaws(standin, own_place):
    version = own_place.api.list("secrets")["metadata"]["resourceVersion"]
    standin.fault("watch", "secrets", frozen=True)
    with own_place.api.watch("secrets", version) as watch:
        own_place.api.create("secrets", secret("a"))
        watch.connection.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            next(watch)
    with own_place.api.watch("secrets", version) as watch:
        next(watch)
        standin.control("streams", {"resource": "secrets", "do": "freeze"})
        own_place.api.create("secrets", secret("b"))
        watch.connection.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            next(watch)
    with own_place.api.watch("secrets", version) as watch:
        standin.control("streams", {"resource": "secrets", "do": "freeze"})
        standin.control("streams", {"resource": "secrets", "do": "thaw"})
        assert [next(watch).object["metadata"]["name"] for _ in range(2)] == ["a", "b"]
    standin.fault("watch", "secrets", frozen=True)
    with own_place.api.watch("secrets", version) as watch:
        standin.control("streams", {"resource": "secrets", "do": "cut"})
        with pytest.raises(Truncated):
            next(watch)


def test_open_watches_are_ended_and_told(standin, own_place):
    version = own_place.api.list("secrets")["metadata"]["resourceVersion"]
    with own_place.api.watch("secrets", version) as watch:
        standin.control("streams", {"resource": "secrets", "do": "end"})
        assert not list(watch)
    with own_place.api.watch("secrets", version) as watch:
        standin.control("streams", {"resource": "secrets", "do": "bookmark"})
        assert next(watch).type == "BOOKMARK"
        standin.control("streams", {"resource": "secrets", "do": "error"})
        event = next(watch)
        assert (event.type, event.object["code"]) == ("ERROR", 410)
        assert not list(watch)


def test_an_error_comes_in_the_middle_of_a_stream(standin, own_place):
    version = own_place.api.list("secrets")["metadata"]["resourceVersion"]
    for name in "abc":
        own_place.api.create("secrets", secret(name))
    standin.fault("watch", "secrets", error=410, after_events=2)
    with own_place.api.watch("secrets", version) as watch:
        assert [event.type for event in watch][:3] == ["ADDED", "ADDED", "ERROR"]


def test_a_forgotten_version_may_be_told_by_the_status(standin, own_place):
    version = own_place.api.create("secrets", secret("a"))["metadata"]["resourceVersion"]
    own_place.api.create("secrets", secret("b"))
    page = own_place.api.list("secrets", limit=1)["metadata"]["continue"]
    standin.control("expire", {"how": "http"})
    standin.control("compact")
    error = refused(lambda: own_place.api.watch("secrets", version))
    assert (error.status, error.reason) == (410, "Expired")
    assert refused(own_place.api.list, "secrets", limit=1, **{"continue": page}).status == 410


def test_old_changes_are_forgotten_by_themselves():
    with StandIn("--history", "10") as standin, standin.namespace() as place:
        version = place.api.list("secrets")["metadata"]["resourceVersion"]
        made = [place.api.create("secrets", secret(f"s{number}"))["metadata"]["resourceVersion"] for number in range(12)]
        with place.api.watch("secrets", version) as watch:
            assert next(watch).type == "ERROR"
        with place.api.watch("secrets", made[1]) as watch:
            assert next(watch).object["metadata"]["name"] == "s2"


def test_tokens_rotate(standin, own_place):
    old, new = own_place.api.another(token="old"), own_place.api.another(token="new")
    standin.control("settings", {"tokens": ["old"]})
    old.list("jobs")
    standin.control("settings", {"tokens": ["new"]})
    error = refused(old.list, "jobs")
    assert (error.status, error.reason) == (401, "Unauthorized")
    new.list("jobs")
    standin.control("settings", {"tokens": []})
    for api in (old, new):
        api.close()


def test_its_clock_may_be_wrong(standin, own_place):
    standin.control("settings", {"clock_offset": -3600})
    stamp = own_place.api.create("jobs", job("a"))["metadata"]["creationTimestamp"]
    assert stamp <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3500))


def test_a_pod_that_nobody_drives(standin, own_place):
    """The test says what becomes of it."""
    api = own_place.api
    api.create("jobs", job("a", script={"end": "untouched"}))
    pod = api.wait("pods", lambda pod: pod["spec"].get("nodeName"))
    name = pod["metadata"]["name"]
    api.patch("pods", name, {"status": {"phase": "Failed", "reason": "Evicted", "message": "no memory"}}, "status")
    ended = api.wait("jobs", lambda one: one["status"].get("failed"))
    assert ended["status"]["conditions"][0]["reason"] == "BackoffLimitExceeded"
    assert api.get("pods", name)["status"]["reason"] == "Evicted"


@pytest.mark.parametrize("script, phase, reason", [
    ({"end": "evicted"}, "Failed", "Evicted"), ({"end": "oom"}, "Failed", None), ({"exit_code": 0}, "Succeeded", None)])
def test_the_script_for_all(standin, own_place, script, phase, reason):
    standin.control("script", script)
    own_place.api.create("jobs", job("a"))
    pod = own_place.api.wait("pods", lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"))
    assert (pod["status"]["phase"], pod["status"].get("reason")) == (phase, reason)


def test_a_job_goes_on_when_its_quota_is_freed(own_place):
    own_place.api.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": 1}}})
    own_place.api.create("jobs", job("a", script={"end": "never"}))
    first = own_place.api.wait("pods", lambda pod: pod["status"]["phase"] == "Running")
    made = own_place.api.create("jobs", job("b"))
    own_place.api.wait("events", lambda event: event["reason"] == "FailedCreate" and event["involvedObject"]["name"] == "b")
    assert len(own_place.api.list("pods")["items"]) == 1
    own_place.api.delete("jobs", "a", {"propagationPolicy": "Background"})
    own_place.admin.wait_gone("pods", first["metadata"]["name"])
    ended = own_place.api.wait("jobs", lambda one: one["status"].get("succeeded"))
    assert ended["metadata"]["uid"] == made["metadata"]["uid"]


def test_requests_are_counted_by_verb_and_resource(standin, own_place):
    standin.control("reset")
    own_place.api.create("jobs", job("a"))
    own_place.api.create("secrets", secret("s"))
    pod = own_place.api.wait("pods", lambda pod: pod["status"]["phase"] == "Succeeded")
    own_place.api.log(pod["metadata"]["name"])
    own_place.api.delete("jobs", "a")
    counts = standin.counts()
    counts.pop("watch pods", None)  # it may have ended already when it was listed
    assert counts == {"create jobs": 1, "create secrets": 1, "list pods": 1, "get pods/log": 1, "delete jobs": 1}


def test_requests_have_times(standin, own_place):
    for name in ("a", "b"):
        own_place.api.create("secrets", secret(name))
    first, last = standin.control("times", method="GET")["create secrets"]
    assert first < last
    standin.control("reset")
    assert standin.control("times", method="GET") == {}


def test_events_are_fed_to_watches_that_are_open(standin, own_place):
    for name in ("a", "b"):
        own_place.api.create("secrets", secret(name))
    version = own_place.api.list("secrets")["metadata"]["resourceVersion"]
    with own_place.api.watch("secrets", version) as watch:
        for rate in (0, 1000):
            standin.control("feed", {"resource": "secrets", "namespace": own_place.name, "count": 5, "rate": rate})
        events = [next(watch) for _ in range(10)]
    assert {event.type for event in events} == {"MODIFIED"}
    assert [event.object["metadata"]["name"] for event in events] == list("ababa") * 2
    versions = [version_of(event.object) for event in events]
    assert versions == sorted(set(versions)) and versions[0] > int(version)
    assert version_of(own_place.api.create("secrets", secret("c"))) > versions[-1]


def test_a_client_that_goes_away_is_forgotten(standin, own_place):
    with own_place.api.watch("secrets"):
        assert standin.control("streams", method="GET")["secrets"] == 1
    deadline = time.monotonic() + client.PATIENCE
    while standin.control("streams", method="GET")["secrets"]:
        assert time.monotonic() < deadline


@pytest.mark.slow
def test_ten_thousand_jobs_at_once(standin, own_place):
    count = 10_000
    standin.control("settings", {"events": False})
    version = own_place.api.list("jobs")["metadata"]["resourceVersion"]
    containers = [{"name": "c", "image": "i"}]
    body = {"spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": containers}}}}
    asking = own_place.api.another()
    asking.connection = asking.connect(patience=600)
    with own_place.api.watch("jobs", version) as watch:
        making = threading.Thread(target=asking.__call__, args=("POST", "/control/jobs", {
            "namespace": own_place.name, "count": count, "prefix": "j", "body": body}))
        making.start()
        done, last = set(), 0
        for event in watch:
            assert version_of(event.object) > last
            last = version_of(event.object)
            if event.object["status"].get("succeeded"):
                done.add(event.object["metadata"]["name"])
                if len(done) == count:
                    break
        making.join()
    asking.close()
    first = own_place.api.list("pods", limit=500)
    assert len(first["items"]) == 500 and first["metadata"]["remainingItemCount"] == count - 500


def test_tls(tmp_path):
    certificate, key = make_certificate(tmp_path)
    with StandIn("--certificate", certificate, "--key", key, "--token", "t") as standin:
        assert standin.url.startswith("https://")
        api = client.Api(standin.url, certificate, "t")
        assert api("GET", "/version")["major"] == "1"
        assert json.loads(json.dumps(api("GET", path_of("namespaces"))))["kind"] == "NamespaceList"
        api.close()


def test_the_certificate_is_another_and_connections_are_closed(tmp_path):
    pairs = []
    for name in "ab":
        (tmp_path / name).mkdir()
        pairs.append(make_certificate(tmp_path / name))
    with StandIn("--certificate", pairs[0][0], "--key", pairs[0][1]) as standin:
        first = client.Api(standin.url, pairs[0][0])
        first("GET", "/version")
        standin.control("certificate", {"certificate": pairs[1][0], "key": pairs[1][1]})
        first("GET", "/version")
        standin.control("connections")
        assert select.select([first.connection.sock], [], [], client.PATIENCE)[0]  # it has heard of it
        with pytest.raises(ssl.SSLCertVerificationError):
            first("GET", "/version")
        client.Api(standin.url, pairs[1][0])("GET", "/version")


def make_certificate(directory):
    """One for 127.0.0.1 that signs itself: (its file, its key's)."""
    paths = str(directory / "tls.crt"), str(directory / "tls.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", paths[0],
                    "-keyout", paths[1]], check=True, stderr=subprocess.DEVNULL)
    return paths
