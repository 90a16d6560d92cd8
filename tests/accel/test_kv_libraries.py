"""The own cache beside the libraries': they agree in distribution, on a checkpoint trained on text."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import DynamicCache

from biaslab.accel.kv import Kv
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_local, load
from tests.accel.test_checkpoints import SENTENCE
from tests.accel.test_kv import decoded, expected


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> LoadedModel:
    data_dir: Path = request.getfixturevalue("data_dir")
    return load(describe_local(str(data_dir / "models" / "tinystories-656k"), ""), device="cpu", dtype="float32")


TEXTS = (
    SENTENCE,
    "Tom was a big dog. He liked to run in the park with his friend. One day, he saw a cat in a tree.",
    "Lily and Ben went to the beach with mom. They had a red ball and a blue boat. The sun was hot.",
)


def mean_change(model: LoadedModel, kv: Kv) -> float:
    """Mean |change of a token's log p| over the texts, decoded token by token."""
    assert kv.unsupported(model.info, "cpu") is None
    factory = kv.apply(model, "kv").cache_factory
    assert factory is not None
    changes = []
    for text in TEXTS:
        ids = model.tokenizer(text)["input_ids"]
        before = expected(decoded(model, ids, DynamicCache()), ids)
        changes.append(float((expected(decoded(model, ids, factory()), ids) - before).abs().mean()))
    return sum(changes) / len(changes)


def assert_alike(model: LoadedModel, bits: int, backend: str) -> None:
    """Within a factor of 2, where one bit more or less is a factor of 2 to 3.

    The same groups (the channels of one head of one token), and the newest token in full precision, as the
    libraries have it. They choose scales otherwise, and round again what they rounded.
    """
    own = mean_change(model, Kv(bits=bits, residual=1))
    theirs = mean_change(model, Kv(bits=bits, backend=backend))
    assert theirs / 2 < own < theirs * 2, (own, theirs)


@pytest.mark.data
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_hqq_moves_as_much_as_our_own(stories: LoadedModel, bits: int) -> None:
    assert_alike(stories, bits, "hqq")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")  # a foreign library's own
@pytest.mark.parametrize("bits", [4, 2])
def test_quanto_moves_as_much_as_our_own(stories: LoadedModel, bits: int) -> None:
    if find_spec("optimum") is None:
        pytest.skip("needs optimum-quanto; it compiles for two minutes once")
    assert_alike(stories, bits, "quanto")
