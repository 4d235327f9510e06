"""What the service relies on of an API server. Every test with a `place` runs against the real one and against the stand-in,
so that the stand-in does what the real one does; what the real one cannot be made to show is in test_standin.py."""

import base64
import concurrent.futures
import re

import pytest

from kubernetes import client
from kubernetes.client import ApiError, Truncated, version_of
from kubernetes.cluster import StandIn, condition, container_state, ended_pod, finished, job, pods_of

STATUS = ("kind", "apiVersion", "status", "reason", "code")


def run(place, name, command, script, **more):
    """(Job, pod) when both have ended."""
    place.api.create("jobs", job(name, command, place.cluster.image, script, **more))
    pod = ended_pod(place, name)
    ended = place.api.wait("jobs", finished, fieldSelector="metadata.name=" + name)
    return ended, pod


def waiting_pod(place, name, reason):
    """The Job's pod when its container waits for that reason."""
    return place.api.wait("pods", lambda pod: container_state(pod).get("waiting", {}).get("reason") == reason,
                          **pods_of(name))


def refused(call, *arguments, **keywords):
    with pytest.raises(ApiError) as caught:
        call(*arguments, **keywords)
    return caught.value


def secret(name, owner=None, data=b"value"):
    references = {"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": owner["metadata"]["name"],
                                       "uid": owner["metadata"]["uid"]}]} if owner else {}
    return {"metadata": {"name": name, **references}, "data": {"code": base64.b64encode(data).decode()}}


# ---- creating ----


def test_a_created_job_is_answered_whole(place):
    made = place.api.create("jobs", job("a", image=place.cluster.image, labels={"app": "evaluation"},
                                        annotations={"full": "x y"}))
    metadata = made["metadata"]
    assert (made["kind"], made["apiVersion"], metadata["name"], metadata["namespace"]) == ("Job", "batch/v1", "a", place.name)
    assert re.fullmatch(r"[0-9a-f-]{36}", metadata["uid"]) and int(metadata["resourceVersion"]) > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["creationTimestamp"])
    assert metadata["labels"] == {"app": "evaluation"} and metadata["annotations"]["full"] == "x y"
    assert made["spec"]["selector"]["matchLabels"] == {"controller-uid": metadata["uid"]}
    assert made["spec"]["template"]["metadata"]["labels"]["job-name"] == "a"
    assert made["status"] == {}


def test_the_same_name_again_is_already_exists(place):
    first = place.api.create("jobs", job("a", image=place.cluster.image))
    error = refused(place.api.create, "jobs", job("a", "false", place.cluster.image))
    assert {key: error.body[key] for key in STATUS} == {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "AlreadyExists", "code": 409}
    assert error.body["message"] == 'jobs.batch "a" already exists'
    assert error.body["details"] == {"name": "a", "group": "batch", "kind": "jobs"}
    assert place.api.get("jobs", "a")["metadata"]["uid"] == first["metadata"]["uid"]
    place.api.create("secrets", secret("s"))
    assert refused(place.api.create, "secrets", secret("s")).body["details"] == {"name": "s", "kind": "secrets"}


def test_what_is_not_there_is_not_found(place):
    for call in (lambda: place.api.get("jobs", "none"), lambda: place.api.delete("jobs", "none"),
                 lambda: place.api.patch("jobs", "none", {"metadata": {"labels": {"a": "b"}}})):
        error = refused(call)
        assert (error.status, error.reason) == (404, "NotFound")
        assert error.body["message"] == 'jobs.batch "none" not found'
        assert error.body["details"] == {"name": "none", "group": "batch", "kind": "jobs"}
    assert refused(place.api.get, "pods", "none").body["details"] == {"name": "none", "kind": "pods"}


def test_a_namespace_that_is_not_there_is_not_found(place):
    error = refused(place.admin.create, "jobs", job("a"), namespace="no-such-namespace")
    assert (error.status, error.reason, error.body["details"]) == (
        404, "NotFound", {"name": "no-such-namespace", "kind": "namespaces"})


def test_a_name_that_is_none_is_invalid(place):
    error = refused(place.api.create, "jobs", job("Not_A_Name"))
    assert (error.status, error.reason) == (422, "Invalid")
    assert error.body["details"]["causes"][0]["field"] == "metadata.name"


def test_a_secret_holds_a_mebibyte_and_no_more(place):
    place.api.create("secrets", secret("most", data=b"x" * (900 << 10)))
    assert len(base64.b64decode(place.api.get("secrets", "most")["data"]["code"])) == 900 << 10
    error = refused(place.api.create, "secrets", secret("more", data=b"x" * ((1 << 20) + 1)))
    assert (error.status, error.reason) == (422, "Invalid") and "at most 1048576 bytes" in error.body["message"]


def test_a_request_without_rights_is_told_from_a_quota(place):
    if isinstance(place.cluster, StandIn):
        user = f"system:serviceaccount:{place.name}:assay"
        place.cluster.fault("create", "pods", status=403, message=f'pods is forbidden: User "{user}" cannot create resource '
                            f'"pods" in API group "" in the namespace "{place.name}"')
    containers = [{"name": "c", "image": "i"}]
    error = refused(place.api.create, "pods", {"metadata": {"name": "p"}, "spec": {"containers": containers}})
    assert (error.status, error.reason) == (403, "Forbidden")
    assert re.fullmatch(r'pods is forbidden: User "system:serviceaccount:\S+:assay" cannot create resource "pods" in API '
                        r'group "" in the namespace "\S+"', error.body["message"])


# ---- lists ----


def names(listed):
    return [item["metadata"]["name"] for item in listed["items"]]


def test_a_list_is_chosen_by_labels(place):
    for name, labels in (("a", {"app": "evaluation", "n": "1"}), ("b", {"app": "evaluation", "n": "2"}),
                         ("c", {"app": "other"})):
        place.api.create("jobs", job(name, image=place.cluster.image, labels=labels))
    for selector, expected in (("app=evaluation", "ab"), ("app==evaluation,n=2", "b"), ("app!=evaluation", "c"), ("n", "ab"),
                               ("!n", "c"), ("n in (2,3)", "b"), ("n notin (2),app=evaluation", "a"), ("app=none", "")):
        listed = place.api.list("jobs", labelSelector=selector)
        assert names(listed) == list(expected), selector
        assert listed["kind"] == "JobList" and int(listed["metadata"]["resourceVersion"]) > 0
    assert names(place.api.list("jobs", fieldSelector="metadata.name=b")) == ["b"]


def test_a_list_comes_in_pages_of_one_moment(place):
    for number in range(5):
        place.api.create("secrets", secret(f"s{number}"))
    first = place.admin.list("secrets", limit=2)
    seen, page = names(first), first
    place.api.create("secrets", secret("s9"))
    while page["metadata"].get("continue"):
        page = place.admin.list("secrets", limit=2, **{"continue": page["metadata"]["continue"]})
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        seen += names(page)
    assert [name for name in seen if name.startswith("s") and len(name) == 2] == ["s0", "s1", "s2", "s3", "s4"]


# ---- watches ----


def test_a_watch_tells_each_step_in_order(place):
    version = place.api.list("jobs")["metadata"]["resourceVersion"]
    with place.api.watch("jobs", version) as jobs, place.api.watch("pods", version) as pods:
        place.api.create("jobs", job("a", image=place.cluster.image, script={"run_ms": 50}))
        of_job = jobs.until(lambda event: finished(event.object))
        of_pod = pods.until(lambda event: "terminated" in container_state(event.object))
    assert [event.type for event in of_job] == ["ADDED"] + ["MODIFIED"] * (len(of_job) - 1)
    assert of_job[0].object["status"] == {} and of_job[0].object["kind"] == "Job"
    assert any(event.object["status"].get("active") == 1 for event in of_job)
    assert of_job[-1].object["status"]["succeeded"] == 1 and "active" not in of_job[-1].object["status"]
    phases = [event.object["status"]["phase"] for event in of_pod]
    assert phases == sorted(phases, key=["Pending", "Running", "Succeeded"].index) and phases[-1] == "Succeeded"
    assert "nodeName" not in of_pod[0].object["spec"] and of_pod[-1].object["spec"]["nodeName"]
    for events in (of_job, of_pod):
        versions = [version_of(event.object) for event in events]
        assert versions == sorted(set(versions)) and versions[0] > int(version)


def test_a_watch_goes_on_behind_any_version(place):
    version = place.api.list("pods")["metadata"]["resourceVersion"]
    run(place, "a", "true", {})
    last = version_of(place.api.list("pods")["items"][0])  # its node may have more to say of it

    def behind(at):
        with place.api.watch("pods", at) as watch:
            events = watch.until(lambda event: version_of(event.object) == last)
        return [(event.type, version_of(event.object)) for event in events]

    all_of_them = behind(version)
    assert len(all_of_them) >= 4
    for index, (_, at) in enumerate(all_of_them[:-1]):
        assert behind(at) == all_of_them[index + 1:]
    with place.api.watch("pods", last, timeoutSeconds=1) as watch:
        assert all(version_of(event.object) > last for event in watch)


def test_a_watch_without_a_version_begins_with_what_there_is(place):
    made = {name: place.api.create("secrets", secret(name)) for name in ("a", "b")}
    for query in ({}, {"version": 0}):
        with place.admin.watch("secrets", **query, fieldSelector="metadata.name!=x") as watch:
            seen = {}
            for event in watch:
                assert event.type == "ADDED"
                seen[event.object["metadata"]["name"]] = event.object
                if made.keys() <= seen.keys():
                    break
        assert all(version_of(seen[name]) == version_of(made[name]) for name in made)


@pytest.mark.parametrize("word", ["1", "t", "true", "True"])
def test_a_watch_is_asked_for_in_any_word_for_true(place, word):
    version = version_of(place.api.create("secrets", secret("a")))
    place.api.create("secrets", secret("b"))
    with place.admin.watch("secrets", version, watch=word, fieldSelector="metadata.name=b") as watch:
        assert next(watch).object["metadata"]["name"] == "b"


def test_a_watch_ends_cleanly_with_its_time_and_a_bookmark_before(place):
    version = place.api.list("jobs")["metadata"]["resourceVersion"]
    # A bookmark has the version of the last change of any Job, and is not sent unless that is newer than where the watch began.
    with place.cluster.namespace() as other:
        other.api.create("jobs", job("a", image=place.cluster.image, parallelism=0))
    for _ in range(10):  # a server that is busy sends none in so short a time, or two
        with place.api.watch("jobs", version, timeoutSeconds=4, allowWatchBookmarks="true") as watch:
            events = list(watch)
        if events:
            break
    assert events and {event.type for event in events} == {"BOOKMARK"}
    assert events[0].object["kind"] == "Job" and version_of(events[0].object) >= int(version)
    with place.api.watch("jobs", version, timeoutSeconds=1) as watch:
        assert not list(watch)
    with place.api.watch("jobs", version_of(events[-1].object)) as watch:
        place.api.create("jobs", job("a", image=place.cluster.image))
        assert next(watch).object["metadata"]["name"] == "a"


def test_a_watch_by_labels_sees_what_enters_and_what_leaves(place):
    version = version_of(place.api.create("jobs", job("a", image=place.cluster.image, labels={"app": "x"}, parallelism=0)))
    with place.api.watch("jobs", version, labelSelector="app=y") as watch:
        place.api.patch("jobs", "a", {"metadata": {"labels": {"app": "y"}}})
        entered = next(watch)
        assert (entered.type, entered.object["metadata"]["labels"]["app"]) == ("ADDED", "y")
        place.api.patch("jobs", "a", {"metadata": {"labels": {"app": "x"}}})
        left = watch.until(lambda event: event.type == "DELETED")[-1]
        assert version_of(left.object) > version_of(entered.object)


def test_a_watch_from_a_forgotten_version_is_told_in_the_stream(place):
    version = place.api.create("jobs", job("a", image=place.cluster.image))["metadata"]["resourceVersion"]
    place.api.create("jobs", job("b", image=place.cluster.image))
    for name in ("a", "b"):
        place.api.wait("jobs", finished, fieldSelector="metadata.name=" + name)
    if isinstance(place.cluster, StandIn):
        place.cluster.control("compact")
    else:
        place.cluster.restart_api_server()
    with place.api.watch("jobs", version) as watch:
        assert watch.status == 200
        event = next(watch)
        assert event.type == "ERROR"
        assert {key: event.object[key] for key in STATUS} == {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
        assert event.object["message"].startswith("too old resource version: ")
        assert not list(watch)
    listed = place.api.list("jobs")
    assert names(listed) == ["a", "b"]
    with place.api.watch("jobs", listed["metadata"]["resourceVersion"]) as watch:
        place.api.patch("jobs", "a", {"metadata": {"labels": {"seen": "yes"}}})
        assert next(watch).object["metadata"]["labels"]["seen"] == "yes"


def test_a_watch_of_a_server_that_is_killed_breaks_off(place):
    version = place.api.list("jobs")["metadata"]["resourceVersion"]
    with place.api.watch("jobs", version) as watch:
        if isinstance(place.cluster, StandIn):
            place.cluster.control("streams", {"resource": "jobs", "do": "cut"})
        else:
            place.cluster.component("apiserver").kill()
        with pytest.raises(Truncated):
            next(watch)
    if not isinstance(place.cluster, StandIn):
        place.cluster.component("apiserver").start()
        place.cluster.private.wait_api_server()
    place.api.close()
    assert place.api.list("jobs")["items"] == []


# ---- patching and deleting ----


def test_a_patch_that_changes_nothing_is_no_event(place):
    place.api.create("jobs", job("a", image=place.cluster.image, annotations={"k": "v", "gone": "soon"}))
    place.api.wait("jobs", finished)
    version = place.api.list("jobs")["metadata"]["resourceVersion"]
    with place.api.watch("jobs", version) as watch:
        same = place.api.patch("jobs", "a", {"metadata": {"annotations": {"k": "v"}}})
        changed = place.api.patch("jobs", "a", {"metadata": {"annotations": {"k": "w", "gone": None}}})
        event = next(watch)
    assert version_of(same) < version_of(changed) == version_of(event.object)
    assert event.object["metadata"]["annotations"] == {"k": "w"}
    stale = {"metadata": {"resourceVersion": str(version_of(same)), "labels": {"x": "y"}}}
    error = refused(place.api.patch, "jobs", "a", stale)
    assert (error.status, error.reason) == (409, "Conflict")


def deletions(place, options, gone=True):
    """Deletes Job "a" while its pod runs; its own events, and those of the pod."""
    made = place.api.create("jobs", job("a", "sleep 600", place.cluster.image, {"end": "never"}))
    place.api.create("secrets", secret("s", made))
    pod = place.api.wait("pods", lambda pod: pod["status"]["phase"] == "Running", **pods_of("a"))
    place.api.wait("jobs", lambda one: one["status"].get("active"))
    version = place.api.list("jobs")["metadata"]["resourceVersion"]
    with place.api.watch("jobs", version) as jobs, place.api.watch("pods", version) as pods:
        answer = place.api.delete("jobs", "a", options)
        of_job = jobs.until(lambda event: event.type == "DELETED")
        of_pod = pods.until(lambda event: event.type == "DELETED") if gone else []
    return made, pod, answer, of_job, of_pod


def test_deletion_in_the_foreground_ends_with_the_pod(place):
    made, pod, answer, of_job, of_pod = deletions(place, {"propagationPolicy": "Foreground"})
    assert answer["metadata"]["uid"] == made["metadata"]["uid"] and answer["metadata"]["deletionTimestamp"]
    assert of_job[0].type == "MODIFIED" and of_job[0].object["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert of_pod[0].type == "MODIFIED" and of_pod[0].object["metadata"]["deletionTimestamp"]
    assert of_pod[0].object["metadata"]["deletionGracePeriodSeconds"] == 1
    assert of_pod[-1].object["metadata"]["uid"] == pod["metadata"]["uid"]
    assert version_of(of_pod[-1].object) < version_of(of_job[-1].object)
    assert refused(place.api.get, "jobs", "a").status == 404
    place.admin.wait_gone("secrets", "s")


def test_deletion_in_the_background_is_answered_at_once(place):
    made, _, answer, of_job, of_pod = deletions(place, {"propagationPolicy": "Background"})
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": "a", "group": "batch", "kind": "jobs", "uid": made["metadata"]["uid"]}
    assert [event.type for event in of_job] == ["DELETED"] and of_pod
    place.admin.wait_gone("secrets", "s")


def test_a_job_deleted_without_a_word_leaves_its_pods(place):
    _, pod, _, _, _ = deletions(place, None, gone=False)
    left = place.api.wait("pods", lambda one: not one["metadata"].get("ownerReferences"), **pods_of("a"))
    assert left["metadata"]["uid"] == pod["metadata"]["uid"] and not left["metadata"].get("deletionTimestamp")


def test_what_belongs_to_a_job_that_is_gone_is_collected(place):
    made = place.api.create("jobs", job("a", image=place.cluster.image, parallelism=0))
    place.api.delete("jobs", "a", {"propagationPolicy": "Background"})
    place.admin.wait_gone("jobs", "a")
    place.api.create("secrets", secret("late", made))
    place.admin.wait_gone("secrets", "late")


def test_deletion_can_be_held_to_one_uid(place):
    made = place.api.create("jobs", job("a", image=place.cluster.image))
    error = refused(place.api.delete, "jobs", "a", {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}})
    assert (error.status, error.reason) == (409, "Conflict")
    assert re.search(r"UID in (the )?precondition", error.body["message"])
    place.api.delete("jobs", "a", {"propagationPolicy": "Background", "preconditions": {"uid": made["metadata"]["uid"]}})
    place.admin.wait_gone("jobs", "a")


def test_a_finished_job_goes_with_its_time_to_live(place):
    version = place.api.list("pods")["metadata"]["resourceVersion"]
    place.api.create("jobs", job("a", image=place.cluster.image, ttlSecondsAfterFinished=1))
    with place.api.watch("pods", version, **pods_of("a")) as watch:
        watch.until(lambda event: event.object["status"]["phase"] == "Succeeded")
    place.admin.wait_gone("jobs", "a")
    assert place.api.list("pods", **pods_of("a"))["items"] == []


def test_a_pod_that_is_deleted_by_hand_is_replaced(place):
    """backoffLimit 0 does not keep the controller from it: a second uid under one Job."""
    place.api.create("jobs", job("a", "sleep 600", place.cluster.image, {"end": "never"}))
    first = place.api.wait("pods", lambda pod: pod["status"]["phase"] == "Running", **pods_of("a"))
    place.api.delete("pods", first["metadata"]["name"], {"gracePeriodSeconds": 0})
    second = place.api.wait("pods", lambda pod: pod["metadata"]["uid"] != first["metadata"]["uid"], **pods_of("a"))
    assert second["metadata"]["ownerReferences"] == first["metadata"]["ownerReferences"]
    assert not condition(place.api.get("jobs", "a"), "Failed")


# ---- quotas ----


def limit(place, hard):
    place.admin.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    place.admin.wait("resourcequotas", lambda quota: set(hard) <= set(quota.get("status", {}).get("used", {})))


def test_a_quota_on_jobs_refuses_them(place):
    limit(place, {"count/jobs.batch": "1"})
    place.api.create("jobs", job("a", image=place.cluster.image))
    place.admin.wait("resourcequotas", lambda quota: quota["status"]["used"]["count/jobs.batch"] == "1")
    error = refused(place.api.create, "jobs", job("b", image=place.cluster.image))
    assert (error.status, error.reason) == (403, "Forbidden")
    assert error.body["message"] == ('jobs.batch "b" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, '
                                     "used: count/jobs.batch=1, limited: count/jobs.batch=1")
    assert error.body["details"] == {"name": "b", "group": "batch", "kind": "jobs"}
    place.api.delete("jobs", "a", {"propagationPolicy": "Background"})
    place.admin.wait("resourcequotas", lambda quota: quota["status"]["used"]["count/jobs.batch"] == "0")
    place.api.create("jobs", job("b", image=place.cluster.image))


def test_a_quota_on_pods_lets_the_job_wait_and_an_event_says_why(place):
    limit(place, {"pods": "0"})
    made = place.api.create("jobs", job("a", image=place.cluster.image))
    event = place.admin.wait("events", lambda event: event["reason"] == "FailedCreate",
                             fieldSelector=f"involvedObject.uid={made['metadata']['uid']}")
    assert event["type"] == "Warning" and event["involvedObject"]["name"] == "a" and event["involvedObject"]["kind"] == "Job"
    assert re.fullmatch(r'Error creating: pods "a-\w{5}" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, '
                        r"limited: pods=0", event["message"])
    assert place.api.list("pods")["items"] == [] and not finished(place.api.get("jobs", "a"))


# ---- what becomes of pods ----


def test_a_pod_that_succeeds(place):
    ended, pod = run(place, "a", "true", {})
    assert ended["status"]["succeeded"] == 1 and condition(ended, "Complete")["status"] == "True"
    assert ended["status"]["startTime"] <= ended["status"]["completionTime"]
    assert pod["status"]["phase"] == "Succeeded"
    state = container_state(pod)["terminated"]
    assert (state["exitCode"], state["reason"]) == (0, "Completed") and "message" not in state
    assert state["startedAt"] <= state["finishedAt"] and state.get("signal") is None
    assert condition(pod, "Ready")["reason"] == "PodCompleted"
    owner, = pod["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": ended["metadata"]["uid"],
                     "controller": True, "blockOwnerDeletion": True}
    assert pod["metadata"]["labels"] == {"controller-uid": ended["metadata"]["uid"], "job-name": "a"}
    assert re.fullmatch(r"a-\w{5}", pod["metadata"]["name"])


@pytest.mark.parametrize("command, code", [("exit 3", 3), ("sh -c 'kill -9 $$$$'; exit $?", 137)])
def test_a_pod_that_fails(place, command, code):
    """A signal is told from an exit code by nobody but the parent of who got it. ($$ is the form of a $ in a command.)"""
    ended, pod = run(place, "a", command, {"exit_code": code})
    assert ended["status"]["failed"] == 1 and "succeeded" not in ended["status"]
    failed = condition(ended, "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "BackoffLimitExceeded")
    assert pod["status"]["phase"] == "Failed" and "reason" not in pod["status"]
    state = container_state(pod)["terminated"]
    assert (state["exitCode"], state["reason"]) == (code, "Error")
    assert condition(pod, "Ready")["reason"] == "ContainersNotReady"


def test_a_termination_message_comes_with_the_end(place):
    _, pod = run(place, "a", "printf 'the report' >/dev/termination-log; exit 3", {"exit_code": 3, "message": "the report"},
                 pod={"securityContext": {}})
    assert container_state(pod)["terminated"]["message"] == "the report"


def test_a_pod_that_takes_too_much_memory(place):
    ended, pod = run(place, "a", "dd if=/dev/zero of=/dev/null bs=300M count=1", {"end": "oom"})
    assert container_state(pod)["terminated"]["reason"] == "OOMKilled"
    assert container_state(pod)["terminated"]["exitCode"] == 137
    assert pod["status"]["phase"] == "Failed" and condition(ended, "Failed")


def test_a_pod_whose_image_is_not_to_be_had(place):
    image = "registry.invalid/no-such-image:1"
    place.api.create("jobs", job("a", image=image, script={"end": "image_pull"}))
    pod = waiting_pod(place, "a", "ImagePullBackOff")
    assert pod["status"]["phase"] == "Pending" and pod["spec"]["nodeName"]
    assert container_state(pod)["waiting"]["message"] == f'Back-off pulling image "{image}"'
    assert condition(pod, "PodScheduled")["status"] == "True"
    event = place.admin.wait("events", lambda event: "Failed to pull image" in event["message"],
                             fieldSelector=f"involvedObject.uid={pod['metadata']['uid']}")
    assert event["type"] == "Warning" and image in event["message"]


def test_a_pod_that_no_node_has_room_for(place):
    place.api.create("jobs", job("a", image=place.cluster.image, script={"end": "unschedulable"},
                                 container={"resources": {"requests": {"cpu": "1000"}}}))
    pod = place.api.wait("pods", lambda pod: condition(pod, "PodScheduled"), **pods_of("a"))
    why = condition(pod, "PodScheduled")
    assert (why["status"], why["reason"]) == ("False", "Unschedulable") and "Insufficient cpu" in why["message"]
    assert pod["status"]["phase"] == "Pending" and "nodeName" not in pod["spec"]
    assert not pod["status"].get("containerStatuses")


def test_a_pod_that_runs_past_its_own_deadline_stays(place):
    place.api.create("jobs", job("a", "sleep 600", place.cluster.image, {"end": "never"}, pod={"activeDeadlineSeconds": 2}))
    pod = place.api.wait("pods", lambda pod: pod["status"]["phase"] == "Failed", **pods_of("a"))
    assert pod["status"]["reason"] == "DeadlineExceeded"
    assert pod["status"]["message"].startswith("Pod was active on the node longer than")
    ended = place.api.wait("jobs", finished)
    assert condition(ended, "Failed")["reason"] == "BackoffLimitExceeded"
    assert place.api.list("pods", **pods_of("a"))["items"]


def test_a_secret_may_come_after_the_job(place):
    """Mounted: the pod waits for it."""
    made = place.api.create("jobs", job(
        "a", 'test "$(cat /code/code)" = value', place.cluster.image,
        pod={"volumes": [{"name": "code", "secret": {"secretName": "s"}}]},
        container={"volumeMounts": [{"name": "code", "mountPath": "/code"}]}))
    place.api.create("secrets", secret("s", made))
    assert container_state(ended_pod(place, "a"))["terminated"]["exitCode"] == 0


def test_a_secret_of_the_environment_may_come_after_the_job(place):
    environment = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "code"}}}]
    made = place.api.create("jobs", job("a", 'test "$KEY" = value', place.cluster.image, container={"env": environment}))
    waiting_pod(place, "a", "CreateContainerConfigError")
    place.api.create("secrets", secret("s", made))
    assert container_state(ended_pod(place, "a"))["terminated"]["exitCode"] == 0


def test_logs_are_there_while_the_pod_is(place):
    place.api.create("jobs", job("a", "echo one; echo two >&2", place.cluster.image, {"log": "one\ntwo\n"}))
    pod = ended_pod(place, "a")["metadata"]["name"]
    assert sorted(place.api.log(pod).split()) == ["one", "two"]
    assert place.api.log(pod, limitBytes=3) == place.api.log(pod)[:3]
    assert place.api.log(pod, tailLines=1, container="code") == place.api.log(pod).splitlines(keepends=True)[-1]
    place.api.create("jobs", job("b", image="registry.invalid/no-such-image:1", script={"end": "image_pull"}))
    waiting = waiting_pod(place, "b", "ImagePullBackOff")
    error = refused(place.api.log, waiting["metadata"]["name"])
    assert (error.status, error.reason) == (400, "BadRequest") and "is waiting to start" in error.body["message"]


def test_many_jobs_at_once(place):
    def create(numbers):
        api = place.api.another()
        for number in numbers:
            api.create("jobs", job(f"j{number}", image=place.cluster.image, labels={"run": "many"}))
        api.close()

    version = place.api.list("jobs")["metadata"]["resourceVersion"]
    with concurrent.futures.ThreadPoolExecutor() as pool, place.api.watch("jobs", version, labelSelector="run=many") as watch:
        for each in [pool.submit(create, range(start, 20, 4)) for start in range(4)]:
            each.result()
        done = set()
        for event in watch:
            if event.object["status"].get("succeeded"):
                done.add(event.object["metadata"]["name"])
            if len(done) == 20:
                break
    assert len(place.api.list("pods", labelSelector="run=many")["items"]) == 20
