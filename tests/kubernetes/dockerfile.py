"""What the last stage of deploy/Dockerfile says, for those who make the same image of local files, or check it."""

import collections
import json
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = os.path.join(ROOT, "deploy/Dockerfile")
BUILT = "/assay/build/"  # where the first stage builds

# `base`: the image it is made from; `packages`: what is installed in it; `programs`: {path in the image: file below the
# build directory}; `env`, `user` and `entrypoint` as an image's configuration has them.
Stage = collections.namedtuple("Stage", "base packages programs env user entrypoint")


def instructions(text):
    """(word, rest) of each."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    return [tuple(line.split(maxsplit=1)) for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]


def last_stage(text=None):
    if text is None:
        with open(PATH, encoding="utf-8") as file:
            text = file.read()
    everything = instructions(text)
    begin = max(i for i, (word, _) in enumerate(everything) if word == "FROM")
    arguments = dict(rest.split("=", 1) for word, rest in everything[:begin] if word == "ARG" and "=" in rest)
    base = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], everything[begin][1])
    packages, programs, env, said = [], {}, [], {}
    for word, rest in everything[begin + 1:]:
        if word == "RUN":
            for installed in re.findall(r"apt-get install ([^&]*)", rest):
                packages += [name for name in installed.split() if not name.startswith("-")]
        elif word == "COPY":
            *sources, target = [part for part in rest.split() if not part.startswith("--")]
            for source in sources:
                if not source.startswith(BUILT) or not target.endswith("/"):
                    raise ValueError(f"COPY {rest}: not from the build into a directory")
                programs[target + os.path.basename(source)] = source[len(BUILT):]
        elif word == "ENV":
            env += rest.split()
        else:
            said[word] = rest
    return Stage(base, packages, programs, env, said["USER"], json.loads(said["ENTRYPOINT"]))
