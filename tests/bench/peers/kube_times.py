#!/usr/bin/python3
"""Reads a watch of pods from standard input, and prints when the line came that tells of the end of each, and its task."""

import json
import sys
import time

ended = set()
for line in sys.stdin.buffer:
    now = time.time()
    if b'"Succeeded"' in line:
        task = json.loads(line)["object"]["metadata"]["labels"]["assay.dev/task"]
        if task not in ended:
            ended.add(task)
            print(f"{now:.6f} {task}", flush=True)
