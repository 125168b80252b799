"""Statistics of real pictures: they come back as they were, and never under other rules than they were made under."""

import numpy as np
import pytest
import torch

from detokenizers.evaluation.features import Extractor
from detokenizers.evaluation.frechet import frechet
from detokenizers.evaluation.moments import Moments
from detokenizers.evaluation.references import load_reference, require_hash, save_moments
from detokenizers.evaluation.rules import rules_of

from .sides import TinyNet

WORLD = Extractor(TinyNet(), "world")
INCEPTION = Extractor(TinyNet(), "inception")


@pytest.fixture
def rows():
    return torch.randn(50, 12, generator=torch.Generator().manual_seed(0))


def test_statistics_come_back_with_their_hash_and_number(tmp_path, rows):
    path = tmp_path / "stats.safetensors"
    save_moments(path, Moments.of(rows, WORLD.identity), rules_of("world"), "abc")
    found = load_reference(path, rules_of("world"), WORLD)
    assert found.about == {"kind": "statistics", "n": 50, "hash": "abc", "file": str(path)}
    assert found.moments.scatter.equal(Moments.of(rows).scatter)


def test_statistics_of_another_protocol_are_refused_whatever_its_metrics(tmp_path, rows):
    path = tmp_path / "stats.safetensors"
    save_moments(path, Moments.of(rows, INCEPTION.identity), rules_of("rfid-in50k"), "abc")
    with pytest.raises(ValueError, match="made under the protocol rfid-in50k v2, not adm-256 v2"):
        load_reference(path, rules_of("adm-256"), INCEPTION)
    others = rules_of("rfid-in50k").vary(unpaired=("kid",))
    assert load_reference(path, others, INCEPTION).moments.count == 50


def test_statistics_of_another_network_are_refused(tmp_path, rows):
    path = tmp_path / "stats.safetensors"
    save_moments(path, Moments.of(rows, Extractor(TinyNet(1), "world").identity), rules_of("world"), "abc")
    with pytest.raises(ValueError, match="holds features of world:"):
        load_reference(path, rules_of("world"), WORLD)


def test_other_pictures_than_the_protocols_are_refused():
    rules = rules_of("mjhq-cleanfid").vary(reference_hash="0" * 64)
    with pytest.raises(ValueError, match="not the pictures of the protocol mjhq-cleanfid"):
        require_hash("1" * 64, rules, "these")
    require_hash("0" * 64, rules, "these")


def test_a_published_npz_is_read_as_mean_and_covariance(tmp_path, rows):
    real = rows.double().numpy()
    np.savez(tmp_path / "stats.npz", mu=real.mean(0), sigma=np.cov(real, rowvar=False))
    found = load_reference(tmp_path / "stats.npz", rules_of("adm-256"), INCEPTION)
    assert found.about["n"] is None
    drawn = Moments.of(rows + 1, INCEPTION.identity)
    assert frechet(drawn, found.moments) == pytest.approx(
        frechet(drawn, Moments.of(rows, INCEPTION.identity)), rel=1e-9
    )


def test_a_published_npz_is_for_inception_only(tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match="taken for statistics of TF-Inception, but the network here is world"):
        load_reference(tmp_path / "stats.npz", rules_of("world"), WORLD)


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
        load_reference(tmp_path / "stats.npz", rules_of("adm-256"), INCEPTION)


def test_a_truncated_npz_and_a_missing_file_are_refused(tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(3), sigma=np.eye(3))
    (tmp_path / "stats.npz").write_bytes((tmp_path / "stats.npz").read_bytes()[:50])
    with pytest.raises(ValueError, match="does not hold `mu` and `sigma`"):
        load_reference(tmp_path / "stats.npz", rules_of("adm-256"), INCEPTION)
    with pytest.raises(ValueError, match="there is no reference at"):
        load_reference(tmp_path / "nothing.npz", rules_of("adm-256"), INCEPTION)


ODD = np.eye(12)
ODD[0, 1] = 0.5
BROKEN = {
    "NaN": (np.zeros(12), np.eye(12) * np.nan, "holds NaN or infinity"),
    "infinity": (np.full(12, np.inf), np.eye(12), "holds NaN or infinity"),
    "asymmetric": (np.zeros(12), ODD, "not symmetric"),
    "indefinite": (np.zeros(12), np.diag([1.0] * 11 + [-0.1]), "negative variances"),
    "negative": (np.zeros(12), -np.eye(12), "negative variances"),
    "another width": (np.zeros(8), np.eye(8), "statistics of 8 numbers a picture, and inception gives 12"),
    "text": (np.zeros(12), np.full((12, 12), "x"), "does not hold `mu` and `sigma`"),
    "no numbers": (np.zeros(0), np.zeros((0, 0)), "statistics of 0 numbers"),
}


@pytest.mark.parametrize(("mean", "covariance", "clue"), BROKEN.values(), ids=BROKEN)
def test_statistics_that_are_no_gaussian_are_refused_in_one_line_that_names_the_file(tmp_path, mean, covariance, clue):
    np.savez(tmp_path / "stats.npz", mu=mean, sigma=covariance)
    with pytest.raises(ValueError, match=clue) as caught:
        load_reference(tmp_path / "stats.npz", rules_of("adm-256"), INCEPTION)
    assert "stats.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "why"), [("array", "it is a single array"), ("nothing", "No data left in file")])
def test_an_npz_that_is_none_is_refused(tmp_path, content, why):
    with (tmp_path / "stats.npz").open("wb") as file:
        if content == "array":
            np.save(file, np.eye(3))
    with pytest.raises(ValueError, match=rf"stats\.npz does not hold `mu` and `sigma` \({why}"):
        load_reference(tmp_path / "stats.npz", rules_of("adm-256"), INCEPTION)


def test_our_own_statistics_are_held_to_the_same(tmp_path):
    broken = Moments(WORLD.identity, 10, torch.zeros(12, dtype=torch.float64), -torch.eye(12, dtype=torch.float64))
    save_moments(tmp_path / "stats.safetensors", broken, rules_of("world"), "abc")
    with pytest.raises(ValueError, match="negative variances"):
        load_reference(tmp_path / "stats.safetensors", rules_of("world"), WORLD)


def test_covariances_of_fewer_pictures_than_numbers_and_of_float32_are_fine(tmp_path, rows):
    for seen in (rows[:3].double().numpy(), rows.numpy(), np.zeros((4, 12))):
        np.savez(tmp_path / "stats.npz", mu=seen.mean(0), sigma=np.cov(seen, rowvar=False).astype(np.float32))
        assert load_reference(tmp_path / "stats.npz", rules_of("adm-256"), INCEPTION).moments.mean.shape == (12,)
