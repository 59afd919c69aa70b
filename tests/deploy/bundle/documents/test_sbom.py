"""The bill of materials, judged by the validator of CycloneDX, and its references and figures by hand."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.documents import sbom
from tests.deploy.bundled_run import PROTOCOL, bundled, with_files
from tests.report.sample import AFTER, CLASSES, masks

FILES = ("model/model.onnx", "model/artifact.json", "bundle/model.py", "report.json", "wheels/numpy-1.99-py3-none-any.whl", "README.md")


@pytest.fixture
def run(tmp_path: Path) -> BundledRun:
    return with_files(bundled(tmp_path, versions={"optimize": "0.1.0", "numpy": "1.99"}), *FILES)


def content(run: BundledRun) -> dict[str, Any]:
    """The document, once the official schema took it."""
    text = sbom.render(run)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def component(bill: dict[str, Any], reference: str) -> dict[str, Any]:
    (found,) = [each for each in bill["components"] if each["bom-ref"] == reference]
    return dict(found)


def references(value: Any) -> list[str]:
    """Every bom-ref, at any depth."""
    if isinstance(value, list):
        return [name for each in value for name in references(each)]
    if isinstance(value, dict):
        own = [value["bom-ref"]] if "bom-ref" in value else []
        return own + [name for each in value.values() for name in references(each)]
    return []


def test_the_schema_takes_every_kind_of_run(run: BundledRun, tmp_path: Path) -> None:
    content(run)
    content(replace(run, report={**run.report, "protocol": PROTOCOL}, model_licence="CC-BY-4.0"))
    (tmp_path / "rejected").mkdir()
    content(with_files(bundled(tmp_path / "rejected", rejected=True), *FILES))
    content(replace(run, report={**masks(), "versions": {}}))


def test_the_schema_would_refuse_another_form(run: BundledRun) -> None:
    spoilt = sbom.bill(run)
    spoilt["components"][0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]["value"] = 1
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(spoilt)) is not None


def test_the_same_run_gives_the_same_bytes_and_another_another_number(run: BundledRun) -> None:
    first = content(run)
    assert sbom.render(run) == sbom.render(run)
    number = uuid.UUID(first["serialNumber"])
    assert number.version == 5
    assert first["metadata"]["timestamp"] == run.report["created"]
    assert content(with_files(run, *FILES[:-1]))["serialNumber"] != first["serialNumber"]


def test_every_file_stands_in_it_with_its_hash(run: BundledRun) -> None:
    bill = content(run)
    listed = {
        each["name"]: each["hashes"]
        for part in (bill, *bill["components"])
        for each in part.get("components", [])
        if each["type"] == "file"
    }
    assert listed == {path: [{"alg": "SHA-256", "content": file.sha256}] for path, file in run.files.items()}


def test_references_are_unique_and_dependencies_name_only_what_is_there(run: BundledRun) -> None:
    bill = content(run)
    names = references({key: value for key, value in bill.items() if key != "dependencies"})
    assert len(names) == len(set(names))
    graph = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    assert set(graph) == set(names) - {"original"}
    assert {name for depends in graph.values() for name in depends} <= set(graph)
    assert {"pkg:pypi/numpy@1.99"} < set(graph["runner"])
    assert graph["bundle"][:2] == ["model", "runner"]


def test_packages_have_purls_versions_scopes_and_the_hash_of_their_wheel(run: BundledRun) -> None:
    bill = content(run)
    packages = {each["name"]: each for each in bill["components"] if each["type"] == "library"}
    for package in packages.values():
        purl = PackageURL.from_string(package["purl"])
        assert (purl.type, purl.name, purl.version) == ("pypi", package["name"], package["version"])
    assert packages["numpy"]["hashes"] == [{"alg": "SHA-256", "content": run.files[FILES[4]].sha256}]
    assert "hashes" not in packages["onnxruntime"]
    assert {packages[name]["scope"] for name in ("numpy", "onnxruntime")} == {"required"}
    assert {packages[name]["scope"] for name in ("cryptography", "uvicorn", "starlette", "prometheus-client")} == {"optional"}


def test_the_model_card_has_data_figures_and_considerations(run: BundledRun) -> None:
    card = component(content(replace(run, report={**run.report, "protocol": PROTOCOL})), "model")["modelCard"]
    parameters = card["modelParameters"]
    assert (parameters["task"], parameters["modelArchitecture"]) == ("classification", "net.py:make")
    assert parameters["architectureFamily"] == "convolutional neural network"
    test = {each["name"]: each["value"] for each in parameters["datasets"][-1]["contents"]["properties"]}
    assert (test["sha256"], test["cases"], test["cases of platelet"]) == ("d" * 64, "350", "116")
    metrics = {(each["type"], each.get("slice")): each for each in card["quantitativeAnalysis"]["performanceMetrics"]}
    for index, name in enumerate(CLASSES):
        recall = AFTER[index][index] / sum(AFTER[index])
        found = metrics["recall", f"class {name}"]
        assert float(found["value"]) == pytest.approx(recall, rel=1e-5)
        assert float(found["confidenceInterval"]["lowerBound"]) < recall < float(found["confidenceInterval"]["upperBound"])
    assert ("accuracy", "site A") in metrics
    assert ("drop of recall", "class basophil") in metrics
    considerations = card["considerations"]
    assert considerations["useCases"] == ["Sorting of cells."]
    assert [each["groupAtRisk"] for each in considerations["fairnessAssessments"]] == ["site A", "site B", "site C"]
    assert any("evidence for a decision" in text for text in considerations["technicalLimitations"])


def test_what_is_not_stated_says_so_and_a_rejected_run_warns(run: BundledRun, tmp_path: Path) -> None:
    model = component(content(run), "model")
    assert "not stated" in model["licenses"][0]["license"]["name"]
    assert "Not stated" in model["modelCard"]["considerations"]["useCases"][0]
    (tmp_path / "rejected").mkdir()
    bill = content(bundled(tmp_path / "rejected", rejected=True))
    assert "This model was rejected." in bill["metadata"]["component"]["description"]
