"""Protocols: a number is called FID only where the rules of that name were kept, and published numbers have a place."""

import pytest

from detokenizers.data.canonical import PREPARATIONS
from detokenizers.evaluation import metrics
from detokenizers.evaluation.anchors import METRICS, ROWS
from detokenizers.evaluation.rules import PROTOCOLS, Rules, rules_of
from detokenizers.evaluation.tables import beside


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_bears_its_name_and_asks_for_metrics_and_preparations_that_exist(name):
    rules = rules_of(name)
    assert rules.name == name
    assert {rules.prepare, rules.prepare_drawn} <= {*PREPARATIONS, "as-is", "any-size"}
    names = [one for one in (*rules.paired, *rules.unpaired) if one != "agreement"]
    assert metrics.chosen(names, extractor=rules.extractor).distances
    assert Rules.parse(rules.model_dump(mode="json")) == rules


def test_an_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no protocol 'fid50k'; there are world, rfid-in50k"):
        rules_of("fid50k")


def test_only_inception_at_the_protocols_own_n_is_called_fid():
    rules = rules_of("rfid-in50k")
    key, metric, tag = rules.metric("inception", 50_000, paired=True)
    assert (key, metric.label, tag) == ("rfid", "rFID", None)
    assert rules.metric("inception", 50_000, paired=False)[1].label == "FID"
    assert rules.metric("world", 50_000, paired=True)[1].label == "FD-world"


def test_another_n_is_refused_and_goes_by_another_name_when_allowed():
    rules = rules_of("rfid-in50k")
    with pytest.raises(ValueError, match="needs 50,000 pictures, and here are 1,000"):
        rules.metric("inception", 1000, paired=True)
    key, metric, tag = rules.metric("inception", 1000, paired=True, any_n=True)
    assert (key, metric.label, tag) == ("fd_inception", "FD-inception (N=1,000)", "not comparable")
    with pytest.raises(ValueError, match="asks for 50,000 pictures, and here are 999"):
        rules.require_n(999, any_n=False)
    rules.require_n(999, any_n=True)


def test_a_protocol_without_n_calls_nothing_fid():
    with pytest.raises(ValueError, match="fixes N, which this is not"):
        rules_of("world").metric("inception", 50_000, paired=False)


def test_metrics_are_parts_behind_names():
    found = metrics.chosen(["psnr", "ssim", "ssim-uniform7", "rfid", "fid", "prdc", "codebook"], extractor="world")
    assert [part.name for part in found.measures] == ["psnr", "ssim-uniform7", "ssim-gaussian11"]
    assert [part.name for part in found.distances] == ["fid", "prdc"]
    assert found.extractors == ("inception", "world")
    assert found.codebook


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no metric 'fidd'; there are psnr, ssim"):
        metrics.chosen(["fidd"], extractor="world")


def test_published_numbers_belong_to_protocols_and_known_metrics():
    assert set(ROWS) <= set(PROTOCOLS)
    assert all(set(row.numbers) <= set(METRICS) for rows in ROWS.values() for row in rows)
    dcdd = {row.label: row.numbers for row in ROWS["dcdd-imagenet"]}
    assert dcdd["Janus-Pro-7B DCDD"]["rfid"] == 0.7535


def test_our_numbers_stand_above_the_papers_under_its_protocol_only():
    ours = {"label": "rFID", "better": "lower", "unit": "", "value": 1.5, "low": None, "high": None}
    result = {
        "kind": "reconstruction",
        "protocol": {"name": "dcdd-imagenet-1k"},
        "decoders": {"dcdd": {"metrics": {"rfid": ours}}},
    }
    text = beside(result)
    assert "| **dcdd** (here) | 1.500 |" in text
    assert "| DCDD, 30 steps (DCDD, Table 6) | 17.70 | 0.595 | 0.141 |" in text
    assert beside(result | {"protocol": {"name": "world"}}) is None
    assert beside(result | {"kind": "generation"}) is None


def test_published_numbers_are_read_as_their_loaders_read_and_ours_are_turned_upright():
    loads = {name: rules_of(name).load for name in PROTOCOLS}
    assert loads.pop("world") == "upright-on-white"
    assert set(loads.values()) == {"pil-rgb"}
    assert all("nearest" in rules().quantisation for rules in PROTOCOLS.values())
