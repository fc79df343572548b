# SPDX-License-Identifier: Apache-2.0
"""Every way in which a bundle can be bad gives one message that names the file and the remedy."""

import json
import os
import shutil
from pathlib import Path

import pytest

from edge_vlm.errors import BundleError, OutputError
from edge_vlm.files import whole_folder, write_bytes
from edge_vlm.runtime.bundle import Bundle

COPIED_FILES = ("vision.tflite", "text.tflite", "tokenizer.json", "report.json")


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def refusal(folder: Path, **options) -> BundleError:
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder, **options)
    assert caught.value.remedy
    return caught.value


def change(folder: Path, edit) -> None:
    value = json.loads((folder / "bundle.json").read_text())
    edit(value)
    (folder / "bundle.json").write_text(json.dumps(value))


def test_a_good_bundle_says_what_it_holds(bundle: Path):
    info = Bundle.load(bundle).info
    assert (info.vision.grid, info.vision.tokens, info.vision.image_tokens) == (8, 64, 16)
    assert (info.name, info.variant, info.text.context_length, info.sttf) == ("tiny", "original", 96, None)
    assert info.weight_bytes == sum((bundle / name).stat().st_size for name in ("vision.tflite", "text.tflite"))
    assert Bundle.load(bundle).report() == {}


def test_missing_folder_and_file_instead_of_folder(tmp_path: Path):
    assert "no such bundle folder" in refusal(tmp_path / "absent").what
    (tmp_path / "file").write_text("x")
    assert "not a bundle folder" in refusal(tmp_path / "file").what


def test_a_folder_without_bundle_json(bundle: Path):
    (bundle / "bundle.json").unlink()
    error = refusal(bundle)
    assert "bundle.json: missing" in error.what


@pytest.mark.parametrize("name", COPIED_FILES)
def test_each_missing_or_truncated_file_is_named(bundle: Path, name: str):
    data = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[:-1])
    error = refusal(bundle, verify=False)  # a size needs no checksum
    assert f"{name}: truncated: {len(data) - 1} bytes, expected {len(data)}" in error.what
    (bundle / name).unlink()
    assert f"{name}: missing" in refusal(bundle).what


def test_one_flipped_bit_names_both_checksums(bundle: Path):
    path = bundle / "vision.tflite"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    expected = Bundle.load(bundle, verify=False).info.files["vision.tflite"].sha256
    message = str(refusal(bundle))
    assert "vision.tflite: damaged: sha256" in message and f"expected {expected}" in message and "remedy" in message


@pytest.mark.parametrize("kept", [0, 1, 100, -3])
def test_truncated_bundle_json(bundle: Path, kept: int):
    data = (bundle / "bundle.json").read_bytes()
    (bundle / "bundle.json").write_bytes(data[:kept])
    assert "not valid JSON" in refusal(bundle).what


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"format": "gguf"}', "\x00\x01", "[" * 100_000])
def test_foreign_bundle_json(bundle: Path, content: str):
    (bundle / "bundle.json").write_text(content)
    assert "bundle.json" in refusal(bundle).what


def test_another_version_says_which_is_read(bundle: Path):
    change(bundle, lambda value: value.update(version=2))
    assert "version 2; this edge_vlm reads version 1" in refusal(bundle).what


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", "..", "", "a\\b"])
def test_file_names_that_leave_the_folder_are_refused(bundle: Path, name: str):
    change(bundle, lambda value: value["files"].update({name: {"sha256": "0", "bytes": 1}}))
    assert "leaves the bundle" in refusal(bundle).what


def test_a_link_out_of_the_folder_is_refused(bundle: Path, tmp_path: Path):
    shutil.move(bundle / "text.tflite", tmp_path / "text.tflite")
    os.symlink(tmp_path / "text.tflite", bundle / "text.tflite")
    assert "link that leaves" in refusal(bundle).what


def remove(*keys):
    def edit(value):
        for key in keys[:-1]:
            value = value[key]
        del value[keys[-1]]

    return edit


def put(new, *keys):
    def edit(value):
        for key in keys[:-1]:
            value = value[key]
        value[keys[-1]] = new

    return edit


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (remove("name"), "name is missing"),
        (remove("vision", "tokens"), "vision.tokens is missing"),
        (remove("files", "text.tflite"), "lists no text.tflite"),
        (put("196", "vision", "tokens"), "vision.tokens is '196'"),
        (put(True, "vision", "tokens"), "vision.tokens is True"),
        (put([0.5, 0.5], "image", "mean"), "image.mean"),
        (put([0.5, 0.5, 0.0], "image", "std"), "image.std"),
        (put(0, "image", "patch_size"), "image.size"),
        (put(9, "vision", "shallow_layers"), "vision.shallow_layers"),
        (put(10**6, "text", "eos_token_id"), "text.eos_token_id"),
        (put("{question}", "prompt", "template"), "prompt.template"),
        (put(-1, "files", "text.tflite", "bytes"), "text.tflite"),
        (put(5, "router"), "router is 5"),
    ],
)
def test_a_wrong_setting_is_named(bundle: Path, edit, named: str):
    change(bundle, edit)
    error = refusal(bundle)
    assert "bundle" in error.what and named in error.what


def test_unknown_settings_are_left_to_later_versions(bundle: Path):
    change(bundle, put("x", "vision", "of_the_future"))
    assert Bundle.load(bundle).info.vision.layers == 4


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), whole_folder(target) as folder:
        write_bytes(folder / "a", b"1")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    for content in (b"1", b"2"):  # the second replaces the first
        with whole_folder(target) as folder:
            write_bytes(folder / "a", content)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (target / "a").read_bytes() == b"2"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_vlm.files.os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
