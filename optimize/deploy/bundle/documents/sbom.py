"""sbom.cdx.json: the bill of materials, CycloneDX 1.6: the model with its model card, every file, the runner, and the packages it needs.

    bundle ── model ── original (pedigree), the files of model/, the data as hashes
       ├───── runner ── runtime, numpy ── what these need
       └───── every other file of the bundle, with its hash

The serial number is made from the content (UUID version 5) and the time is that of the run, so the same run gives the same bytes. The
packages for signatures and for serving are optional components.

Source: https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from optimize.deploy.bundle.bundled_run import BundledFile, BundledRun
from optimize.deploy.bundle.documents.licences import OWN, OWN_LICENCE
from optimize.deploy.bundle.manifest import readable_json
from optimize.deploy.bundle.model_card_data import model_card
from optimize.deploy.bundle.needed_packages import PURPOSES, NeededPackage, needed, runtime_package

NAME = "sbom.cdx.json"
LAST = True
SPEC_VERSION = "1.6"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/schema/bom-1.6.schema.json")
_BUNDLE, _MODEL, _RUNNER = "bundle", "model", "runner"


def render(run: BundledRun) -> str:
    """Return the bill of materials as JSON."""
    content = bill(run)
    # from the content, and not from chance: the same bundle has the same number, another content another one
    number = uuid.uuid5(_NAMESPACE, json.dumps(content, sort_keys=True))
    return readable_json({**content, "serialNumber": f"urn:uuid:{number}"})


def bill(run: BundledRun) -> dict[str, Any]:
    """Return the bill of materials without its serial number."""
    required = needed(run)
    optional = {package.name: package for purpose in PURPOSES[1:] for package in needed(run, purpose)}
    extra = [optional[name] for name in sorted(optional.keys() - {package.name for package in required})]
    hashes = _wheel_hashes(run)
    packages = [
        *(_package(package, "required", hashes) for package in required),
        *(_package(package, "optional", hashes) for package in extra),
    ]
    others = [_file(file) for path, file in sorted(run.files.items()) if not path.startswith(("model/", "bundle/"))]
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {
            "timestamp": run.report["created"],
            "tools": {"components": [{"type": "application", "name": OWN, **_version(run)}]},
            "component": {"type": "application", "bom-ref": _BUNDLE, "name": run.title, "description": _description(run)},
        },
        "components": [_model(run), _runner(run), *packages, *others],
        "dependencies": _dependencies(run, [*required, *extra], others),
    }


def _description(run: BundledRun) -> str:
    said = f"Bundle of a compiled model; verdict of its run: {run.verdict}."
    return said if run.warning is None else f"{said} {run.warning}"


def _version(run: BundledRun) -> dict[str, str]:
    version = run.report["versions"].get(OWN)
    return {"version": version} if version else {}


def _model(run: BundledRun) -> dict[str, Any]:
    report = run.report
    original = {
        "type": "machine-learning-model",
        "bom-ref": "original",
        "name": run.name,
        "hashes": [_sha256(report["model"]["sha256"])],
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": run.name,
        "description": f"Compiled for {run.artifact.target} {run.artifact.runtime} at {run.artifact.precision}.",
        "licenses": [{"license": {"name": run.model_licence or "not stated: see LICENSES.md"}}],
        "pedigree": {"ancestors": [original], "notes": "The artifact was made from this original by optimize compress."},
        "components": [_file(file) for path, file in sorted(run.files.items()) if path.startswith("model/")],
        "modelCard": model_card(run),
        "properties": _properties(
            {
                "optimize:artifact_sha256": run.artifact.sha256,
                "optimize:target": run.artifact.target,
                "optimize:precision": run.artifact.precision,
                "optimize:verdict": run.verdict,
            }
        ),
    }


def _runner(run: BundledRun) -> dict[str, Any]:
    return {
        "type": "application",
        "bom-ref": _RUNNER,
        "name": f"{OWN} bundle runner",
        **_version(run),
        "licenses": [{"expression": OWN_LICENCE, "acknowledgement": "declared"}],
        "components": [_file(file) for path, file in sorted(run.files.items()) if path.startswith("bundle/")],
    }


def _package(package: NeededPackage, scope: str, hashes: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "scope": scope,
    }
    if package.licence:
        # metadata of older packages holds words that are no SPDX expression, such as "Apache 2.0"; these are a name
        said = {"expression": package.licence} if package.is_expression else {"license": {"name": package.licence}}
        component["licenses"] = [said]
    if digest := hashes.get((package.name, package.version)):
        component["hashes"] = [_sha256(digest)]
    return component


def _file(file: BundledFile) -> dict[str, Any]:
    return {"type": "file", "bom-ref": f"file:{file.path}", "name": file.path, "hashes": [_sha256(file.sha256)]}


def _sha256(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _wheel_hashes(run: BundledRun) -> dict[tuple[str, str], str]:
    """Return (name, version) of a package -> hash of its wheel, for the wheels that are in the bundle."""
    found = {}
    for path, file in run.files.items():
        if path.startswith("wheels/"):
            try:
                name, version, _, _ = parse_wheel_filename(Path(path).name)
            except InvalidWheelFilename:
                continue
            found[str(name), str(version)] = file.sha256
    return found


def _dependencies(run: BundledRun, packages: list[NeededPackage], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what needs what. Every component stands there, also one that needs nothing, as CycloneDX asks."""
    purls = {package.name: package.purl for package in packages}
    runtime = [purls[name] for name in (canonicalize_name(runtime_package(run)),) if name in purls]
    numpy = [purls["numpy"]] if "numpy" in purls else []
    inside = {
        _MODEL: [f"file:{path}" for path in sorted(run.files) if path.startswith("model/")],
        _RUNNER: [f"file:{path}" for path in sorted(run.files) if path.startswith("bundle/")],
    }
    graph = {
        _BUNDLE: [_MODEL, _RUNNER, *(other["bom-ref"] for other in others)],
        _MODEL: [*runtime, *inside[_MODEL]],
        _RUNNER: sorted({*runtime, *numpy}) + inside[_RUNNER],
        **{package.purl: [purls[name] for name in package.needs if name in purls] for package in packages},
        **{reference: [] for references in inside.values() for reference in references},
        **{other["bom-ref"]: [] for other in others},
    }
    return [{"ref": reference, "dependsOn": depends} if depends else {"ref": reference} for reference, depends in graph.items()]
