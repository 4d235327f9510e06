#!/usr/bin/python3
"""The watch of seed 003's option 5: a Python client that is told of pods. The distribution's python3-kubernetes where it is installed, else
http.client and json alone.

usage: kube_watch.py KUBECONFIG CA NAMESPACE SELECTOR EVENTS

Reads so many events, then prints {"client": …, "cpu_us": microseconds of the processor per event}."""

import http.client
import json
import re
import resource
import ssl
import sys
import urllib.parse


def with_package(kubeconfig, namespace, selector, count):
    from kubernetes import client, config, watch
    config.load_kube_config(kubeconfig)
    api = client.CoreV1Api()
    version = api.list_namespaced_pod(namespace, label_selector=selector, limit=1).metadata.resource_version
    begin = None
    stream = watch.Watch().stream(api.list_namespaced_pod, namespace, label_selector=selector, resource_version=version)
    for number, _ in enumerate(stream):
        begin = begin if number else spent()
        if number == count - 1:
            return (spent() - begin) / (count - 1)
    raise SystemExit("the watch ended")


def bare(kubeconfig, ca, namespace, selector, count):
    with open(kubeconfig, encoding="utf-8") as file:
        url = urllib.parse.urlsplit(re.search(r"server: (\S+)", file.read())[1])
    connection = http.client.HTTPSConnection(url.hostname, url.port, context=ssl.create_default_context(cafile=ca))
    path = f"/api/v1/namespaces/{namespace}/pods?"
    connection.request("GET", path + urllib.parse.urlencode({"limit": 1}))
    version = json.loads(connection.getresponse().read())["metadata"]["resourceVersion"]
    connection.request("GET", path + urllib.parse.urlencode(
        {"watch": 1, "labelSelector": selector, "resourceVersion": version}))
    answer, begin = connection.getresponse(), None
    for number in range(count):
        json.loads(answer.readline())
        begin = begin if number else spent()
    return (spent() - begin) / (count - 1)


def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main():
    kubeconfig, ca, namespace, selector, count = sys.argv[1:]
    try:
        client, each = "python3-kubernetes", with_package(kubeconfig, namespace, selector, int(count))
    except ImportError:
        client, each = "Python's http.client and json", bare(kubeconfig, ca, namespace, selector, int(count))
    print(json.dumps({"client": client, "cpu_us": each * 1e6}))


main()
