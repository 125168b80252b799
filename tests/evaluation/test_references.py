"""Statistics of real pictures: they come back as they were, and never under other rules than they were made under."""

import numpy as np
import pytest
import torch

from detokenizers.evaluation.features import Extractor
from detokenizers.evaluation.frechet import frechet
from detokenizers.evaluation.protocols import protocol
from detokenizers.evaluation.references import load_reference, require_hash, save_reference
from detokenizers.evaluation.statistics import Moments

from .sides import TinyNet

WORLD = Extractor(TinyNet(), "world")
INCEPTION = Extractor(TinyNet(), "inception")


@pytest.fixture
def rows():
    return torch.randn(50, 6, generator=torch.Generator().manual_seed(0))


def test_statistics_come_back_with_their_hash_and_number(tmp_path, rows):
    path = tmp_path / "stats.safetensors"
    save_reference(path, Moments.of(rows, WORLD.identity), protocol("world"), "abc")
    found = load_reference(path, protocol("world"), WORLD)
    assert found.about == {"kind": "statistics", "n": 50, "hash": "abc", "file": str(path)}
    assert found.moments.scatter.equal(Moments.of(rows).scatter)


def test_statistics_of_another_protocol_are_refused_whatever_its_metrics(tmp_path, rows):
    path = tmp_path / "stats.safetensors"
    save_reference(path, Moments.of(rows, INCEPTION.identity), protocol("rfid-in50k"), "abc")
    with pytest.raises(ValueError, match="made under the protocol rfid-in50k v2, not adm-256 v2"):
        load_reference(path, protocol("adm-256"), INCEPTION)
    others = protocol("rfid-in50k").vary(unpaired=("kid",))
    assert load_reference(path, others, INCEPTION).moments.count == 50


def test_statistics_seen_by_another_network_are_refused(tmp_path, rows):
    path = tmp_path / "stats.safetensors"
    save_reference(path, Moments.of(rows, Extractor(TinyNet(1), "world").identity), protocol("world"), "abc")
    with pytest.raises(ValueError, match="was seen by world:"):
        load_reference(path, protocol("world"), WORLD)


def test_other_pictures_than_the_protocols_are_refused():
    rules = protocol("mjhq-cleanfid").vary(reference_hash="0" * 64)
    with pytest.raises(ValueError, match="not the pictures of the protocol mjhq-cleanfid"):
        require_hash("1" * 64, rules, "these")
    require_hash("0" * 64, rules, "these")


def test_a_published_npz_is_read_as_mean_and_covariance(tmp_path, rows):
    real = rows.double().numpy()
    np.savez(tmp_path / "stats.npz", mu=real.mean(0), sigma=np.cov(real, rowvar=False))
    found = load_reference(tmp_path / "stats.npz", protocol("adm-256"), INCEPTION)
    assert found.about["n"] is None
    drawn = Moments.of(rows + 1, INCEPTION.identity)
    assert frechet(drawn, found.moments) == pytest.approx(
        frechet(drawn, Moments.of(rows, INCEPTION.identity)), rel=1e-9
    )


def test_a_published_npz_is_for_inception_only(tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match="taken for statistics of TF-Inception, but world looks here"):
        load_reference(tmp_path / "stats.npz", protocol("world"), WORLD)


@pytest.mark.parametrize(
    ("arrays", "clue"),
    [
        ({"mu": np.zeros(3)}, "does not hold `mu` and `sigma`"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, "do not fit"),
        ({"mu": np.array([{}], dtype=object), "sigma": np.eye(3)}, "does not hold `mu` and `sigma`"),
    ],
)
def test_an_npz_that_holds_something_else_is_refused_and_never_unpickled(tmp_path, arrays, clue):
    np.savez(tmp_path / "stats.npz", **arrays)
    with pytest.raises(ValueError, match=clue):
        load_reference(tmp_path / "stats.npz", protocol("adm-256"), INCEPTION)


def test_a_truncated_npz_and_a_missing_file_are_refused(tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(3), sigma=np.eye(3))
    (tmp_path / "stats.npz").write_bytes((tmp_path / "stats.npz").read_bytes()[:50])
    with pytest.raises(ValueError, match="does not hold `mu` and `sigma`"):
        load_reference(tmp_path / "stats.npz", protocol("adm-256"), INCEPTION)
    with pytest.raises(ValueError, match="there is no reference at"):
        load_reference(tmp_path / "nothing.npz", protocol("adm-256"), INCEPTION)
