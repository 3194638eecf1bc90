"""Whole files: our synthetic ones, and captures of real meters where they are at hand."""

from __future__ import annotations

import pathlib

import pytest

from app.protocol.tic.frames import FrameReader
from app.protocol.tic.groups import GroupReader
from tests.app.protocol.tic import synthetic

ROOT = pathlib.Path(__file__).parents[4]
FIXTURES = ROOT / "tests" / "fixtures" / "tic"
CAPTURES = ROOT.parent / "shared" / "captures" / "tic"

# Frames (whole), groups good, groups bad.
EXPECTED_SYNTHETIC = {
    "std_hc_mono.bin": (3, 93, 0),
    "std_tri_prod_0f.bin": (2, 54, 0),
    "std_8n1.bin": (3, 93, 0),
    "hist_hc_mono.bin": (3, 33, 0),
    "hist_ejp_mono.bin": (1, 11, 0),
    "hist_tri_short.bin": (5, 35, 0),
    "hist_crlf.txt": (3, 33, 0),
}
EXPECTED_REAL = {
    "hist_hc_mono_hallard.txt": (5, 55, 0),
    "hist_base_tri_hallard.txt": (5, 75, 0),
    "hist_tempo_mono_pyteleinfo.bin": (10, 160, 0),
    "hist_base_mono_enedis.txt": (1, 9, 0),
    "std_hc_mono_enedis.txt": (1, 38, 0),
    "std_hc_mono_enedis_bad-pcoup.txt": (1, 37, 1),
    "std_base_tri_hallard.txt": (1, 53, 0),
    "std_tempo_tri_prod_openhab.raw": (1, 104, 0),
    "std_hc_mono_prod_noisy_fmartinou.log": (9, 431, 4),
    "std_base_tri_mangled_hallard.txt": (2, 76, 12),
}


def counts(path: pathlib.Path) -> tuple[int, int, int]:
    groups, frames = GroupReader(), FrameReader()
    for _ in frames.take(groups.feed(path.read_bytes())):
        pass
    for _ in frames.take(groups.finish()):
        pass
    for _ in frames.finish():
        pass
    return frames.frames_whole, groups.groups_good, groups.groups_bad


@pytest.mark.parametrize("name", EXPECTED_SYNTHETIC)
def test_a_synthetic_file(name):
    assert counts(FIXTURES / name) == EXPECTED_SYNTHETIC[name]


def test_the_synthetic_files_are_those_the_code_makes():
    assert {path.name: path.read_bytes() for path in FIXTURES.iterdir() if path.suffix != ".md"} == synthetic.files()
    assert all(f"`{name}`" in (FIXTURES / "README.md").read_text() for name in EXPECTED_SYNTHETIC)


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="captures of real meters are not at hand (../shared/captures/tic)")
@pytest.mark.parametrize("name", EXPECTED_REAL)
def test_a_capture_of_a_real_meter(name):
    assert counts(CAPTURES / name) == EXPECTED_REAL[name]


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="captures of real meters are not at hand (../shared/captures/tic)")
def test_every_capture_is_expected():
    assert {path.name for path in CAPTURES.iterdir()} == set(EXPECTED_REAL)
