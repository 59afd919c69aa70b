"""A build context for Docker, Podman or Buildah: a Dockerfile, and the bundle that it copies.

    Dockerfile       from a slim Python image that is an argument, so that it can be pinned by its digest
    .dockerignore    everything but the bundle
    bundle/          the bundle as it is

With `wheels/` in the bundle nothing is downloaded while the image is built. At start nothing ever is. The image runs as a user without a
name or a right, and writes nothing, so its root file system may be read-only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimize.deploy.bundle.container import FOLDER, PORT, USER, command, requirements, serves

NAME = "docker"
MARK = "bundle/manifest.json"
"""Path that shows a folder to be an earlier context of this kind."""
IGNORED = "*\n!bundle\n"
HEALTH = (
    f"import http.client as h; c = h.HTTPConnection('127.0.0.1', {PORT}, timeout=2); "
    "c.request('GET', '/v2/health/ready'); raise SystemExit(c.getresponse().status != 200)"
)
"""Python that ends with 0 while the server is ready; the standard library is enough, and no proxy of the environment is asked."""


def write(bundle: Path, out: Path) -> None:
    """Make the build context.

    Args:
        bundle: folder of the complete bundle.
        out: folder to make.
    """
    shutil.copytree(bundle, out / "bundle")
    said = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    for name, text in (("Dockerfile", dockerfile(bundle, said)), (".dockerignore", IGNORED)):
        (out / name).write_text(text, encoding="utf-8", newline="\n")


def dockerfile(bundle: Path, said: Mapping[str, Any]) -> str:
    """Return the Dockerfile.

    Args:
        bundle: folder of the bundle.
        said: content of its manifest.json.
    """
    python = ".".join(str(said["machine"]["python"]).split(".")[:2])
    lines = [
        f"# {said['name']} for {said['target']}, {said['precision']}, verdict {said['verdict']}.",
        *([f"# {said['warning']}"] if said["warning"] else []),
        "#",
        "#   docker build -t model .",
        f"#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges -p 127.0.0.1:{PORT}:{PORT} model",
        "#",
        f"# Pin the base image by its digest: docker build --build-arg BASE=python:{python}-slim@sha256:… .",
        f"ARG BASE=python:{python}-slim",
        "FROM ${BASE}",
        f"COPY bundle/ {FOLDER}/",
        *_packages(bundle),
        f"WORKDIR {FOLDER}",
        # compiled code could not be written anyway, and the bundle refuses files that its manifest does not list
        "ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1",
        f"USER {USER}",
    ]
    if serves(bundle):
        check = json.dumps(["python3", "-c", HEALTH])
        lines += [f"EXPOSE {PORT}", "STOPSIGNAL SIGTERM", f"HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD {check}"]
    lines += [f"ENTRYPOINT {json.dumps(['python3', '-m', 'bundle'])}", f"CMD {json.dumps(command(bundle))}"]
    return "".join(f"{line}\n" for line in lines)


def _packages(bundle: Path) -> list[str]:
    """Return the step that installs what the runner needs, from the bundle's wheels where they are there."""
    # a context that was copied with narrow rights could not be read by the user that the image runs as
    readable = f"RUN chmod -R a+rX {FOLDER}"
    files = requirements(bundle)
    if not files:
        return [readable]
    # every package is compared with its hash; pip wants one for each, or for none
    hashes = all("--hash=" in (bundle / file).read_text(encoding="utf-8") for file in files)
    wheels = any((bundle / "wheels").glob("*.whl"))
    install = [
        "python3 -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore",
        *([f"--no-index --find-links={FOLDER}/wheels"] if wheels else []),
        *(["--require-hashes"] if hashes else []),
        *(f"-r {FOLDER}/{file}" for file in files),
    ]
    said = "# Nothing is downloaded: the packages are in the bundle." if wheels else "# Packages are downloaded now, and never at start."
    return [said, f"{readable} && {' '.join(install)}"]
