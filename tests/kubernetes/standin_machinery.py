"""The stand-in's Job controller, scheduler, kubelet and garbage collector, as far as their doings are seen in objects.

What becomes of a pod says its script: the annotation cluster.SCRIPT of its template over the script for all. Members:

    end            "exit" (default), "oom", "image_pull", "unschedulable", "evicted", "never" (it runs until it is deleted or
                   its own deadline has passed), "untouched" (the test writes its status), "unbound" (it is not even given a node)
    exit_code, message (the termination message), log
    schedule_ms, start_ms, run_ms, stop_ms: how long each takes; 0 where not given, stop_ms 10"""

import asyncio
import json

from kubernetes.standin_store import KINDS, Refused

NODE = "standin-node"
SCRIPT = "standin.assay.dev/script"
PODS, JOBS, SECRETS, EVENTS, NAMESPACES = (KINDS[name] for name in ("pods", "jobs", "secrets", "events", "namespaces"))
ENDED = ("Succeeded", "Failed")
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def ended(pod):
    return pod["status"].get("phase") in ENDED


def finished(job):
    return any(condition["type"] in ("Complete", "Failed") and condition["status"] == "True"
               for condition in job["status"].get("conditions") or ())


def secrets_of(pod):
    """The names of those that its containers take into their environment, and of those that are mounted."""
    named = {source["secretKeyRef"]["name"] for container in pod["spec"]["containers"] for env in container.get("env") or ()
             if (source := env.get("valueFrom") or {}).get("secretKeyRef") and not source["secretKeyRef"].get("optional")}
    mounted = {volume["secret"]["secretName"] for volume in pod["spec"].get("volumes") or ()
               if "secret" in volume and not volume["secret"].get("optional")}
    return named, mounted


class Machinery:
    def __init__(self, store, loop):
        self.store, self.loop = store, loop
        self.script = {}  # for all pods
        self.write_events = True
        self.waiting = {}  # namespace -> uids of Jobs that got no pod for want of quota
        self.stuck = {}  # uid of a pod that waits for Secrets -> its key, and their names
        self.number = 0
        store.on_change = self._on_change
        self.listeners = []  # called as on_change is

    # ---- what came about ----

    def _on_change(self, kind, change):
        for listener in self.listeners:
            listener(kind, change)
        if kind is JOBS:
            self._on_job(change)
        elif kind is PODS:
            self._on_pod(change)
        elif kind is SECRETS and change.type == "ADDED":
            metadata = change.item["metadata"]
            for uid, (key, missing) in self.stuck.items():
                if metadata["name"] in missing and metadata["namespace"] == key[0]:
                    self._soon(0, self._start, uid, key)
        elif kind is NAMESPACES and change.item["metadata"].get("deletionTimestamp") and change.type == "MODIFIED":
            self._soon(0, self._empty_namespace, change.item)
        elif kind is KINDS["resourcequotas"]:
            self._quota_freed(change.item["metadata"]["namespace"])
        if change.type == "DELETED":
            self._collect(change.item["metadata"]["uid"])
            for owner in change.item["metadata"].get("ownerReferences") or ():
                job = self._present(JOBS, (change.item["metadata"]["namespace"], owner["name"]), owner["uid"])
                if job:
                    self._soon(0, self._delete_dependents, job)
        elif change.type == "ADDED":
            for owner in change.item["metadata"].get("ownerReferences") or ():
                self._soon(20, self._collect_orphan, kind, change.item, owner)

    def _soon(self, milliseconds, function, *arguments):
        self.loop.call_later(milliseconds / 1000, self._unless_gone, function, *arguments)

    @staticmethod
    def _unless_gone(function, *arguments):
        try:
            function(*arguments)
        except Refused:  # the object went meanwhile
            pass

    def _present(self, kind, key, uid):
        found = self.store.objects[kind.resource].get(key)
        return found if found and found["metadata"]["uid"] == uid else None

    def event(self, kind, item, reason, message, type_="Normal", component="job-controller"):
        if not self.write_events:
            return
        self.number += 1
        now, metadata = self.store.stamp(), item["metadata"]
        self.store.create(EVENTS, metadata["namespace"], {
            "metadata": {"name": f"{metadata['name']}.{self.number:016x}"},
            "involvedObject": {"kind": kind.kind, "namespace": metadata["namespace"], "name": metadata["name"],
                               "uid": metadata["uid"], "apiVersion": (kind.group + "/" if kind.group else "") + kind.version,
                               "resourceVersion": metadata["resourceVersion"]},
            "reason": reason, "message": message, "source": {"component": component}, "type": type_, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now, "eventTime": None, "reportingComponent": "", "reportingInstance": ""})

    # ---- Jobs ----

    def _on_job(self, change):
        metadata = change.item["metadata"]
        key = metadata["namespace"], metadata["name"]
        if change.type == "ADDED":
            self._soon(0, self._sync_job, key, metadata["uid"])
        elif change.type == "MODIFIED" and metadata.get("deletionTimestamp"):
            self._soon(0, self._delete_dependents, change.item)

    def pods_of(self, job):
        return [pod for resource, key in self.store.dependents.get(job["metadata"]["uid"], ()) if resource == "pods"
                for pod in [self.store.objects["pods"].get(key)] if pod]

    def _sync_job(self, key, uid):
        job = self._present(JOBS, key, uid)
        if not job or finished(job) or job["metadata"].get("deletionTimestamp"):
            return
        pods = self.pods_of(job)
        succeeded = sum(pod["status"].get("phase") == "Succeeded" for pod in pods)
        failed = sum(pod["status"].get("phase") == "Failed" for pod in pods)
        active = [pod for pod in pods if not ended(pod) and not pod["metadata"].get("deletionTimestamp")]
        status = {"startTime": job["status"].get("startTime") or self.store.stamp()}
        conditions = None
        if failed > job["spec"]["backoffLimit"]:
            conditions = self._condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
            for pod in active:
                self.delete_pod(pod, pod["spec"]["terminationGracePeriodSeconds"])
            active = []
        elif succeeded >= job["spec"]["completions"]:
            conditions = self._condition("Complete")
            status["completionTime"] = self.store.stamp()
        elif not active and job["spec"]["parallelism"] and not job["spec"].get("suspend"):
            active = self._make_pod(job)
        counts = {"active": len(active), "succeeded": succeeded, "failed": failed}
        status |= {name: count for name, count in counts.items() if count}
        if conditions:
            status["conditions"] = conditions
        job = self.store.change(JOBS, job, status=status)
        if conditions:
            reason = conditions[0].get("reason")
            self.event(JOBS, job, reason or "Completed", conditions[0].get("message", "Job completed"),
                       "Warning" if reason else "Normal")
            self._job_ended(job)

    def _condition(self, type_, reason=None, message=None):
        now = self.store.stamp()
        return [{"type": type_, "status": "True", "lastProbeTime": now, "lastTransitionTime": now,
                 **({"reason": reason, "message": message} if reason else {})}]

    def _job_ended(self, job):
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        if seconds is not None:
            self._soon(1000 * seconds, self.delete, JOBS, job, "Foreground")

    def _make_pod(self, job):
        """[the pod], or [] where a quota refuses it."""
        metadata, template = job["metadata"], job["spec"]["template"]
        self.number += 1
        suffix = "".join(ALPHABET[self.number * 7919 // len(ALPHABET) ** place % len(ALPHABET)] for place in range(5))
        body = {"metadata": {**{key: value for key, value in template["metadata"].items() if key != "creationTimestamp"},
                             "generateName": metadata["name"] + "-", "name": f"{metadata['name']}-{suffix}",
                             "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"],
                                                  "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}]},
                "spec": template["spec"]}
        try:
            pod = self.store.create(PODS, metadata["namespace"], body)
        except Refused as refused:
            self.event(JOBS, job, "FailedCreate", f"Error creating: {refused}", "Warning")
            self.waiting.setdefault(metadata["namespace"], {})[metadata["uid"]] = metadata["name"]
            return []
        self.event(JOBS, job, "SuccessfulCreate", "Created pod: " + pod["metadata"]["name"])
        return [pod]

    def _quota_freed(self, namespace):
        for uid, name in self.waiting.pop(namespace, {}).items():
            self._soon(0, self._sync_job, (namespace, name), uid)

    # ---- pods ----

    def _on_pod(self, change):
        metadata = change.item["metadata"]
        key = metadata["namespace"], metadata["name"]
        if change.type == "ADDED":
            self._soon(self.script_of(change.item).get("schedule_ms", 0), self._schedule, metadata["uid"], key)
        else:
            over = change.type == "DELETED" or ended(change.item)
            if over:
                self.stuck.pop(metadata["uid"], None)
                self._soon(0, self._quota_freed, metadata["namespace"])
            if over or metadata.get("deletionTimestamp"):
                for owner in metadata.get("ownerReferences") or ():
                    self._soon(0, self._sync_job, (metadata["namespace"], owner["name"]), owner["uid"])

    def script_of(self, pod):
        own = (pod["metadata"].get("annotations") or {}).get(SCRIPT)
        return {**self.script, **(json.loads(own) if own else {})}

    def _status(self, pod, ready, reason=None, **status):
        """Writes a pod's status, with its conditions."""
        now = self.store.stamp()
        old = {condition["type"]: condition for condition in pod["status"].get("conditions") or ()}
        names = [container["name"] for container in pod["spec"]["containers"]]
        why = {} if ready else {"reason": "PodCompleted"} if reason == "PodCompleted" else {
            "reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(names)}]"}
        conditions = []
        for type_, state, more in (("Initialized", "True", {"reason": "PodCompleted"} if reason == "PodCompleted" else {}),
                                   ("Ready", "True" if ready else "False", why),
                                   ("ContainersReady", "True" if ready else "False", why),
                                   ("PodScheduled", "True", {})):
            since = old.get(type_, {})
            conditions.append({"type": type_, "status": state, "lastProbeTime": None,
                               "lastTransitionTime": since["lastTransitionTime"] if since.get("status") == state else now,
                               **more})
        return self.store.change(PODS, pod, status={
            **pod["status"], "conditions": conditions, "hostIP": "198.18.0.2", **status})

    def _containers(self, pod, state, ready=False, started=False):
        made = bool({"running", "terminated"} & state.keys())
        identifier = {"containerID": "containerd://" + pod["metadata"]["uid"].replace("-", "") * 2} if made else {}
        return [{"name": container["name"], "state": state, "lastState": {}, "ready": ready, "restartCount": 0,
                 "image": container["image"], "imageID": "sha256:" + "0" * 64 if made else "", **identifier,
                 "started": started}
                for container in pod["spec"]["containers"]]

    def _schedule(self, uid, key):
        pod = self._present(PODS, key, uid)
        end = self.script_of(pod).get("end") if pod else None
        if not pod or end == "unbound" or pod["metadata"].get("deletionTimestamp"):
            return
        now = self.store.stamp()
        if end == "unschedulable":
            message = "0/1 nodes are available: 1 Insufficient cpu."
            pod = self.store.change(PODS, pod, status={**pod["status"], "conditions": [{
                "type": "PodScheduled", "status": "False", "lastProbeTime": None, "lastTransitionTime": now,
                "reason": "Unschedulable", "message": message}]})
            self.event(PODS, pod, "FailedScheduling", message, "Warning", "default-scheduler")
            return
        pod = self.store.change(PODS, pod, spec={**pod["spec"], "nodeName": NODE}, status={**pod["status"], "conditions": [
            {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}]})
        self.event(PODS, pod, "Scheduled", f"Successfully assigned {key[0]}/{key[1]} to {NODE}",
                   component="default-scheduler")
        if end != "untouched":
            if pod["spec"].get("activeDeadlineSeconds"):
                self._soon(1000 * pod["spec"]["activeDeadlineSeconds"], self._pod_deadline, uid, key)
            self._status(pod, False, startTime=now,
                         containerStatuses=self._containers(pod, {"waiting": {"reason": "ContainerCreating"}}))
            self._soon(self.script_of(pod).get("start_ms", 0), self._start, uid, key)

    def _start(self, uid, key):
        pod = self._present(PODS, key, uid)
        if not pod or ended(pod) or pod["metadata"].get("deletionTimestamp"):
            return
        script, end = self.script_of(pod), self.script_of(pod).get("end", "exit")
        named, mounted = secrets_of(pod)
        missing = sorted(name for name in named | mounted if not self.store.find(SECRETS, key[0], name))
        if missing:
            if not any(name in mounted for name in missing):
                self._status(pod, False, containerStatuses=self._containers(pod, {"waiting": {
                    "reason": "CreateContainerConfigError", "message": f'secret "{missing[0]}" not found'}}))
            self.stuck[uid] = key, missing
            return
        self.stuck.pop(uid, None)
        if end == "image_pull":
            image = pod["spec"]["containers"][0]["image"]
            why = f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": failed to resolve reference'
            state = {"waiting": {"reason": "ErrImagePull", "message": why}}
            pod = self._status(pod, False, containerStatuses=self._containers(pod, state))
            self.event(PODS, pod, "Failed", f'Failed to pull image "{image}": {why}', "Warning", "kubelet")
            self._soon(20, self._back_off, uid, key)
            return
        state = {"running": {"startedAt": self.store.stamp()}}
        self._status(pod, True, phase="Running", podIP="198.19.0.2", podIPs=[{"ip": "198.19.0.2"}],
                     containerStatuses=self._containers(pod, state, True, True))
        if end == "evicted":
            self._soon(script.get("run_ms", 0), self._evict, uid, key)
        elif end != "never":
            code, reason = (137, "OOMKilled") if end == "oom" else (script.get("exit_code", 0), None)
            self._soon(script.get("run_ms", 0), self.terminate, uid, key, code, reason)

    def _back_off(self, uid, key):
        pod = self._present(PODS, key, uid)
        if pod and not pod["metadata"].get("deletionTimestamp"):
            message = f'Back-off pulling image "{pod["spec"]["containers"][0]["image"]}"'
            state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
            self._status(pod, False, containerStatuses=self._containers(pod, state))

    def terminate(self, uid, key, code, reason=None, **status):
        """The container ends by itself."""
        pod = self._present(PODS, key, uid)
        if not pod or ended(pod):
            return None
        began = (pod["status"].get("containerStatuses") or [{}])[0].get("state", {}).get("running", {}).get("startedAt")
        message = self.script_of(pod).get("message")
        state = {"terminated": {"exitCode": code, "reason": reason or ("Error" if code else "Completed"),
                                **({"message": message} if message else {}), "startedAt": began or self.store.stamp(),
                                "finishedAt": self.store.stamp()}}
        return self._status(pod, False, None if code else "PodCompleted", phase="Failed" if code else "Succeeded",
                            containerStatuses=self._containers(pod, state), **status)

    def _evict(self, uid, key):
        pod = self._present(PODS, key, uid)
        if pod and not ended(pod):
            message = "The node was low on resource: memory. "
            kept = {key: pod["status"][key] for key in ("startTime", "qosClass")}
            self.store.change(PODS, pod, status={"phase": "Failed", "reason": "Evicted", "message": message, **kept})
            self.event(PODS, pod, "Evicted", message, "Warning", "kubelet")

    def _pod_deadline(self, uid, key):
        pod = self._present(PODS, key, uid)
        if pod and not ended(pod):
            self.store.change(PODS, pod, status={
                **pod["status"], "phase": "Failed", "reason": "DeadlineExceeded",
                "message": "Pod was active on the node longer than the specified deadline"})

    def delete_pod(self, pod, seconds):
        """As kubelet does it: told to end, killed, gone."""
        metadata = pod["metadata"]
        if not pod["spec"].get("nodeName") or ended(pod) or seconds == 0:
            self.store.remove(PODS, pod)
            return pod
        if metadata.get("deletionTimestamp"):
            return pod
        pod = self.store.mark_deleted(PODS, pod, seconds)
        if self.script_of(pod).get("end") != "untouched":
            self._soon(self.script_of(pod).get("stop_ms", 10), self._stopped, metadata["uid"],
                       (metadata["namespace"], metadata["name"]))
        return pod

    def _stopped(self, uid, key):
        self.terminate(uid, key, 137)
        pod = self._present(PODS, key, uid)
        if pod:
            self.store.remove(PODS, pod)

    # ---- deletion ----

    def delete(self, kind, item, policy=None, seconds=None):
        """What DELETE does. Returns the object where it is still there, None where it has gone."""
        metadata = item["metadata"]
        if kind is PODS:
            self.delete_pod(item, item["spec"]["terminationGracePeriodSeconds"] if seconds is None else seconds)
        elif kind is NAMESPACES:
            self.store.change(NAMESPACES, {**item}, status={"phase": "Terminating"}, metadata={
                **metadata, "deletionTimestamp": metadata.get("deletionTimestamp") or self.store.stamp(),
                "finalizers": ["kubernetes"]})
        elif policy == "Foreground":
            self.store.mark_deleted(kind, item, 0, ["foregroundDeletion"])
        elif metadata.get("finalizers"):
            self.store.mark_deleted(kind, item, 0)
        else:
            # A Job's pods are left alone unless somebody says otherwise, and so it is with what else it owns.
            if policy == "Orphan" or (policy is None and kind is JOBS):
                self._orphan(metadata["uid"])
            self.store.remove(kind, item)
        return self._present(kind, (metadata.get("namespace", ""), metadata["name"]), metadata["uid"])

    def _dependents(self, uid):
        for resource, key in list(self.store.dependents.get(uid, ())):
            found = self.store.objects[resource].get(key)
            if found:
                yield KINDS[resource], found

    def _orphan(self, uid):
        for kind, item in self._dependents(uid):
            metadata = {**item["metadata"], "ownerReferences": [
                owner for owner in item["metadata"]["ownerReferences"] if owner["uid"] != uid]}
            if not metadata["ownerReferences"]:
                del metadata["ownerReferences"]
            self.store.change(kind, item, metadata=metadata)

    def _collect(self, uid):
        for kind, item in self._dependents(uid):
            self._soon(0, self.delete, kind, item, "Background")

    def _collect_orphan(self, kind, item, owner):
        """Made for an owner that is not there."""
        owners, metadata = KINDS.get(owner["kind"].lower() + "s"), item["metadata"]
        if owners and not self._present(owners, (metadata["namespace"], owner["name"]), owner["uid"]):
            present = self._present(kind, (metadata["namespace"], metadata["name"]), metadata["uid"])
            if present and owner in present["metadata"].get("ownerReferences", ()):
                self.delete(kind, present, "Background")

    def _delete_dependents(self, owner):
        """Of an owner that is deleted in the foreground; it goes with the last that blocks it."""
        metadata = owner["metadata"]
        present = self._present(JOBS, (metadata["namespace"], metadata["name"]), metadata["uid"])
        if not present or "foregroundDeletion" not in (present["metadata"].get("finalizers") or ()):
            return  # it does not wait for anything
        blocking = False
        for kind, item in self._dependents(metadata["uid"]):
            gone = self.delete(kind, item, "Background") is None
            blocks = any(one["uid"] == metadata["uid"] and one.get("blockOwnerDeletion")
                         for one in item["metadata"]["ownerReferences"])
            blocking = blocking or (blocks and not gone)
        if not blocking:
            finalizers = [name for name in present["metadata"]["finalizers"] if name != "foregroundDeletion"]
            self.store.change(JOBS, present, metadata={**present["metadata"], "finalizers": finalizers})

    def _empty_namespace(self, item):
        name = item["metadata"]["name"]
        for kind in KINDS.values():
            if kind.namespaced:
                for one in self.store.of_namespace(kind, name):
                    self._unless_gone(self.store.remove, kind, one)
        present = self._present(NAMESPACES, ("", name), item["metadata"]["uid"])
        if present:
            self.store.remove(NAMESPACES, present)

    # ---- many at once ----

    async def make_jobs(self, namespace, body, count, prefix):
        """As though so many clients had created one each."""
        for number in range(count):
            made = json.loads(json.dumps(body))
            made.setdefault("metadata", {})["name"] = f"{prefix}-{number}"
            self.store.create(JOBS, namespace, made)
            if number % 100 == 99:
                await asyncio.sleep(0)
