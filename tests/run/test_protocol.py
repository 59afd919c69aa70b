"""Protocols: what a complete one holds, each gap in it, its signature, and how it decides whether a run may begin."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import tomli_w

from optimize.errors import InputError
from optimize.run.identity import identity
from optimize.run.prepare import loaded
from optimize.run.protocol import envelope_of, read_protocol, sign_protocol
from optimize.run.protocol_agreement import require_known, require_settings
from optimize.run.protocol_draft import write_draft
from optimize.run.recipe import Recipe, resolve, to_toml
from optimize.run.verification.verify import _taken_up
from tests import keys, runs
from tests.docs.pages import ROOT, blocks

SCHEMA = json.loads((ROOT / "optimize" / "report" / "schema.json").read_text(encoding="utf-8"))
PAGE = ROOT / "docs" / "change_control.md"


@pytest.fixture
def recipe(brought: Path, tmp_path: Path) -> Recipe:
    return resolve(brought, target="onnxruntime", overrides={"out": tmp_path / "out", "history": tmp_path / "looks.jsonl"})


def of_the_page() -> dict[str, Any]:
    """The example of the page."""
    (text,) = [block.text for block in blocks("p", PAGE.read_text(encoding="utf-8")) if block.language == "toml"]
    return tomllib.loads(text)


def written(folder: Path, content: dict[str, Any], name: str = "protocol.toml") -> Path:
    (folder / name).write_text(tomli_w.dumps(content), encoding="utf-8")
    return folder / name


def changed(content: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of nested tables with one value replaced, or left out where it is None."""
    head, _, rest = path.partition("/")
    inner = changed(content.get(head, {}), rest, value) if rest else value
    return {**{key: each for key, each in content.items() if key != head}, **({} if inner is None else {head: inner})}


def test_the_example_of_the_page_is_complete_and_can_be_read(tmp_path: Path) -> None:
    file = written(tmp_path, of_the_page())
    protocol = read_protocol(file)
    require_known(protocol)
    assert protocol.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert protocol.content["date"] == "2026-11-20"
    assert protocol.signed is None


def test_json_with_the_same_keys_is_the_same_protocol(tmp_path: Path) -> None:
    content = json.loads(json.dumps(of_the_page(), default=str))
    (tmp_path / "p.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_protocol(tmp_path / "p.json").content == read_protocol(written(tmp_path, of_the_page())).content


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("format", 2, "`format`"),
        ("format", True, "`format`"),
        ("title", None, "`title`"),
        ("responsible", " ", "`responsible`"),
        ("date", "soon", "`date`"),
        ("date", None, "`date`"),
        ("date", date.today() + timedelta(days=2), "after today"),
        ("modification/description", "", "`description` of \\[modification\\]"),
        ("modification/intended_use", None, "`intended_use`"),
        ("modification/unchanged", "", "`unchanged`"),
        ("modification/intended_us", "x", "did you mean 'intended_use'"),
        ("criteria", None, "\\[criteria\\]"),
        ("justification/max_drop", None, "says nothing of `max_drop`"),
        ("justification/max_drop", "", "`max_drop` of \\[justification\\]"),
        ("justification/min_class_f1", "x", "'min_class_f1'"),
        ("statistics/plan", None, "`plan`"),
        ("test_data/sha256", None, "`sha256`"),
        ("consequences/rejected", None, "`rejected`"),
        ("run", None, "\\[run\\]"),
        ("run/target", None, "`target`"),
        ("practices/data", "", "`data`"),
        ("impact/risks", "one", "list of sentences"),
        ("impact/risks", ["one", ""], "`risks`"),
        ("impact", "none", "must be a table"),
        ("budget", {"a": 1}, "'budget'"),
    ],
)
def test_each_gap_is_named_in_one_line(tmp_path: Path, path: str, value: object, text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        read_protocol(written(tmp_path, changed(of_the_page(), path, value)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("criteria/max_drip", "2pp", "did you mean `max_drop`"),
        ("criteria/max_drop", "2potatoes", "2potatoes"),
        ("run/sede", 1, "did you mean `seed`"),
        ("run/max_drop", 0.02, "`max_drop`"),
        ("run/seed", "x", "x"),
        ("run/target", "xyz", "`target` of .* must be one of"),
        ("test_data/sha256", "abc", "64 hexadecimal digits"),
        ("model/sha256", "g" * 64, "64 hexadecimal digits"),
    ],
)
def test_what_is_no_setting_is_found_before_it_is_signed(tmp_path: Path, path: str, value: object, text: str) -> None:
    content = changed(changed(of_the_page(), path, value), "justification/max_drip", "why" if "drip" in path else None)
    with pytest.raises(InputError, match=text):
        require_known(read_protocol(written(tmp_path, content)))
    code, _, stderr = runs.command("protocol", tmp_path / "protocol.toml", "--sign-key", keys.private(tmp_path / "key.pem"))
    assert (code, len(stderr.splitlines())) == (2, 1)
    assert not envelope_of(tmp_path / "protocol.toml").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.toml", b"a = "),
        ("p.toml", b"\xff"),
        ("p.toml", b"a = nan"),
        ("p.toml", b"a = " + b"[" * 9999),
        ("p.json", b"[]"),
        ("p.json", b'{"a": 1, "a": 2}'),
        ("p.json", b'{"a": "\\ud800"}'),
    ],
)
def test_what_is_no_protocol_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        read_protocol(tmp_path / name)
    assert str(caught.value).isprintable()


def test_a_huge_or_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("#" * 300_000, encoding="utf-8")
    with pytest.raises(InputError, match="larger than"):
        read_protocol(tmp_path / "p.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_protocol(tmp_path / "nowhere.toml")


def test_a_signature_holds_for_exactly_these_bytes(tmp_path: Path) -> None:
    file = written(tmp_path, of_the_page())
    private, _ = keys.pair(tmp_path, "a")
    signed = sign_protocol(read_protocol(file), private).signed
    assert signed is not None
    record = read_protocol(file).record()
    assert record["signature"]["fingerprint"] == signed.fingerprint
    assert hashlib.sha256(record["text"].encode()).hexdigest() == record["sha256"]
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="other bytes"):
        read_protocol(file)
    assert read_protocol(file, with_signature=False).signed is None


def test_a_draft_into_no_folder_is_refused_before_any_work(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.run.protocol_draft.loaded", None)
    with pytest.raises(InputError, match="there is no folder"):
        write_draft(recipe, tmp_path / "nowhere" / "p.toml")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="you may not write"):
        write_draft(recipe, tmp_path / "p.toml")


def test_a_signature_that_cannot_be_written_or_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, of_the_page())

    def read_only(path: Path, text: str) -> None:
        raise PermissionError(13, "Permission denied", f".{path.name}.1.tmp")

    with monkeypatch.context() as patch:
        patch.setattr("optimize.run.protocol.write_atomically", read_only)
        with pytest.raises(InputError, match=rf"`{envelope_of(file)}` cannot be written \(permission denied\)"):
            sign_protocol(read_protocol(file), keys.private(tmp_path / "key.pem"))
    envelope_of(file).mkdir()
    with pytest.raises(InputError, match=rf"`{envelope_of(file)}` cannot be read"):
        read_protocol(file)


def filled(file: Path) -> Path:
    """The draft with a word in every empty text."""
    file.write_text(file.read_text(encoding="utf-8").replace('""', '"Said."'), encoding="utf-8")
    return file


@pytest.fixture
def fixed(recipe: Recipe, tmp_path: Path) -> Path:
    """A protocol made from the draft of this very run."""
    return filled(write_draft(recipe, tmp_path / "fixed.toml"))


def test_a_draft_is_refused_until_it_is_filled_in_and_then_agrees_with_its_run(recipe: Recipe, tmp_path: Path) -> None:
    file = write_draft(recipe, tmp_path / "p.toml")
    with pytest.raises(InputError, match="not empty"):
        read_protocol(file)
    require_settings(read_protocol(filled(file)), recipe)
    job = loaded(replace(recipe, protocol=file), lambda space: None)
    assert job.protocol is not None
    assert job.protocol["content"]["test_data"]["sha256"] == job.data.test.sha256
    with pytest.raises(InputError, match="exists"):
        write_draft(recipe, file)


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("criteria/max_drop", 0.05, "fixes max_drop = 0.05, and the run has 0.04"),
        ("criteria/max_drop", "4%", "of the original's figure"),
        ("criteria/confidence", 0.99, "confidence"),
        ("criteria/max_ece_rise", 0.02, "max_ece_rise"),
        ("run/target", "openvino", "target"),
        ("run/seed", 1, "seed"),
        ("model/sha256", "0" * 64, "sha256 of the model"),
        ("test_data/sha256", "0" * 64, "sha256 of the test split"),
    ],
)
def test_a_run_that_differs_is_refused_before_it_writes_anything(recipe: Recipe, fixed: Path, path: str, value: object, text: str) -> None:
    content = changed(tomllib.loads(fixed.read_text(encoding="utf-8")), path, value)
    if path == "criteria/max_ece_rise":
        content = changed(content, "justification/max_ece_rise", "why")
    file = written(fixed.parent, content, "other.toml")
    with pytest.raises(InputError, match=text):
        loaded(replace(recipe, protocol=file), lambda space: None)
    assert not recipe.out.exists()


def test_where_the_numbers_come_from_does_not_matter(brought: Path, fixed: Path, tmp_path: Path) -> None:
    """Limits of a preset, of a flag and of a file are the same limits."""
    content = changed(tomllib.loads(fixed.read_text(encoding="utf-8")), "criteria", {"preset": "clinical", "threshold": 0.5})
    file = written(tmp_path, changed(content, "justification", {"preset": "why"}), "preset.toml")
    preset = resolve(brought, target="onnxruntime", overrides={"preset": "clinical", "threshold": 0.5, "max_drop": None})
    stated = read_protocol(file)
    with pytest.raises(InputError, match="max_drop"):
        require_settings(stated, preset)  # the file beside the model sets its own max_drop
    limits = {"max_drop": "1pp", "max_class_drop": "3pp"}
    own = resolve(brought, target="onnxruntime", overrides={"preset": "clinical", "threshold": 0.5, **limits})
    content = changed(content, "criteria", {"preset": "clinical", "threshold": 0.5, **limits})
    file = written(tmp_path, changed(content, "justification", dict.fromkeys(("preset", *limits), "why")), "own.toml")
    require_settings(read_protocol(file), own)


def test_another_protocol_is_another_run_and_its_place_does_not_matter(recipe: Recipe, fixed: Path, tmp_path: Path) -> None:
    data = loaded(recipe, lambda space: None).data
    moved = tmp_path / "moved.toml"
    moved.write_bytes(fixed.read_bytes())
    before = identity(replace(recipe, protocol=fixed), data)
    assert before == identity(replace(recipe, protocol=moved), data)
    assert before["protocol"] == hashlib.sha256(fixed.read_bytes()).hexdigest()
    moved.write_bytes(fixed.read_bytes() + b"\n")
    after = identity(replace(recipe, protocol=moved), data)
    assert {name for name in before if before[name] != after[name]} == {"protocol"}
    assert identity(recipe, data)["protocol"] is None


def test_the_lock_file_names_the_protocol(recipe: Recipe, fixed: Path, tmp_path: Path) -> None:
    (tmp_path / "lock.toml").write_text(to_toml(replace(recipe, protocol=fixed)), encoding="utf-8")
    assert resolve(recipe_file=tmp_path / "lock.toml").protocol == fixed


def test_the_command_drafts_signs_and_a_run_records_it(brought: Path, any_target: str, tmp_path: Path) -> None:
    """The run ends early: its original breaks a limit. So it costs no search, and its report is whole all the same."""
    settings = tmp_path / "s.toml"
    settings.write_text("[limits]\nmin_class_f1 = 0.9999\nverdict = 'point'\n", encoding="utf-8")
    file = tmp_path / "protocol.toml"
    common = ("--target", any_target, "--recipe", settings)
    assert runs.command("protocol", file, "--draft", brought, *common)[0] == 0
    code, _, stderr = runs.command("protocol", file)
    assert (code, len(stderr.splitlines())) == (2, 1)
    private, _ = keys.pair(tmp_path, "a")
    code, stdout, _ = runs.command("protocol", filled(file), "--sign-key", private, "--json")
    said = json.loads(stdout)
    assert (code, said["state"], said["sha256"]) == (0, "signed", hashlib.sha256(file.read_bytes()).hexdigest())
    assert re.fullmatch("[0-9a-f]{64}", said["fingerprint"])
    assert json.loads(runs.command("protocol", file, "--json")[1]) == said

    model = runs.bring(tmp_path / "bad", runs.arrays(wrong_test=0.0, wrong_val=0.3))
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    run = runs.compressed(model, tmp_path / "out", "--recipe", settings, "--protocol", file, target=any_target)
    assert run.exit_code in (1, 3), run.stderr
    record = run.report["protocol"]
    jsonschema.validate(run.report, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert (record["sha256"], record["signature"]["fingerprint"]) == (said["sha256"], said["fingerprint"])
    assert tomllib.loads(record["text"]) == content
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert said["sha256"] in page
    assert said["fingerprint"] in page


@pytest.mark.parametrize(
    ("flags", "text"),
    [(("--target", "openvino"), "--draft"), (("--draft", "model.pt", "--sign-key", "k.pem"), "fill it in")],
)
def test_flags_that_do_not_go_together_are_refused(tmp_path: Path, flags: tuple[str, ...], text: str) -> None:
    code, _, stderr = runs.command("protocol", written(tmp_path, of_the_page()), *flags)
    assert (code, len(stderr.splitlines())) == (2, 1)
    assert text in stderr


def test_a_verdict_that_is_finished_elsewhere_keeps_the_protocol_of_its_report(accepted: runs.Run, tmp_path: Path) -> None:
    """The file of the protocol need not lie on the other machine: it was checked when the run began."""
    folder = tmp_path / "out"
    shutil.copytree(accepted.out, folder)
    lock = tomllib.loads((folder / "recipe.lock.toml").read_text(encoding="utf-8"))
    lock["change"]["protocol"] = "/nowhere/protocol.toml"
    (folder / "recipe.lock.toml").write_text(tomli_w.dumps(lock), encoding="utf-8")
    said = {"file": "protocol.toml", "sha256": "1" * 64}
    examined: Any = SimpleNamespace(folder=folder, report=accepted.report | {"protocol": said}, trusted=True)
    assert _taken_up(examined, None, {"sign_key": "none"}, None).protocol == said
