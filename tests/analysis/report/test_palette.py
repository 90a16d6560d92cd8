"""Looks: fixed by name, told apart by colour-blind readers, and in grey by marker and dash."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from analysis.report.palette import ACCELS, COLOURS, MODELS, accel_looks, looks

#: Machado, Oliveira & Fernandes (2009), table 1 at severity 1.0, on linear RGB.
SEEN = {
    "common": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    t = TO_XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_lab_is_right_where_it_is_known() -> None:
    assert lab(linear("#ffffff")) == pytest.approx([100, 0, 0], abs=0.02)
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)


@pytest.mark.parametrize("seen", SEEN)
def test_every_pair_of_colours_differs_to_every_eye(seen: str) -> None:
    places = [lab(np.asarray(SEEN[seen]) @ linear(colour)) for colour in COLOURS]
    nearest = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(places, 2))
    assert nearest > 17


@pytest.mark.parametrize("page", ["#ffffff", "#11151a"])
def test_every_colour_has_a_contrast_of_three_to_one_to_the_page(page: str) -> None:
    def luminance(colour: str) -> float:
        return float(TO_XYZ[1] @ linear(colour))

    for colour in COLOURS:
        high, low = sorted([luminance(colour), luminance(page)], reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_looks_are_fixed_by_name_and_distinct_in_grey() -> None:
    names = ["tiny_llama", "tiny_mistral", "a", "b", "c", "d", "e", "f"]
    found = looks(names)
    assert len({look.colour for look in found.values()}) == len(names)
    assert len({(look.marker, look.dash) for look in found.values()}) == len(names)
    assert looks(["tiny_mistral"])["tiny_mistral"] == found["tiny_mistral"]
    assert looks(list(reversed(names))) == found


def test_no_two_of_many_names_look_alike() -> None:
    names = [*MODELS, *(f"model-{i}" for i in range(40))]
    assert len(set(looks(names).values())) == len(names)
    assert len(set(accel_looks(ACCELS).values())) == len(ACCELS)
    assert accel_looks(["wanda50"])["wanda50"] == accel_looks([*ACCELS, "mine"])["wanda50"]
