"""Figures of README and docs that can be computed are what computing gives: sizes, counts, budgets, ratios, schedules.

What was measured stands beside its command in docs/results.md; here the README is held to that page, not to a new run.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import JanusForConditionalGeneration

from detokenizers.checkpoint import load_tensors, resolve
from detokenizers.data.world.objects import COLOURS
from detokenizers.data.world.scenes import Thing, Truth, seen_colour
from detokenizers.data.world.world import HELD_OUT, World, reserved
from detokenizers.dcdd.lcdm import Expectation
from detokenizers.dcdd.model import DCDDConfig
from detokenizers.dcdd.search import PAPER_RANGE, SearchConfig
from detokenizers.evaluation.anchors import ROWS
from detokenizers.evaluation.benchmarks.geneval_prompts import TASKS
from detokenizers.evaluation.benchmarks.geneval_rules import CONFIDENCE, COUNTING_CONFIDENCE, MAX_OBJECTS
from detokenizers.evaluation.rules import PROTOCOLS
from detokenizers.papers import RECIPES
from detokenizers.pretrained.flux.transformer import FluxConfig
from detokenizers.pretrained.vlm.janus import janus_config
from detokenizers.pretrained.vlm.janus_size import JANUS_PRO_7B
from detokenizers.pretrained.weights.published import PUBLISHED as NETWORKS

ROOT = Path(__file__).parent.parent
RATE = 400e12
"""FLOP a second that the budgets of full-size training assume."""
IMAGENET = 1_281_167
"""Pictures of ImageNet's train folder."""


def page(name: str) -> str:
    """A page with its lines joined, so that a sentence can be looked for."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def said(name: str, pattern: str) -> list[float]:
    """The numbers that a page gives where it says so; every place must agree, and there must be one."""
    found = {match.groups() for match in re.finditer(pattern, page(name))}
    assert len(found) == 1, f"{name} says /{pattern}/ in {len(found)} ways: {found}"
    return [float(number.replace(",", "")) for number in found.pop()]


def table(name: str, after: str, heading: str) -> dict[str, dict[str, float]]:
    """Rows by label of the first table below `after` whose head has the column `heading`."""
    lines = (ROOT / name).read_text(encoding="utf-8").split(after, 1)[1].splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("|") and heading in line)
    columns, rows = cells(lines[first]), {}
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        label, *numbers = cells(line)
        rows[label] = {
            column: float(number.split(" [")[0])
            for column, number in zip(columns[1:], numbers, strict=True)
            if number != "–"
        }
    return rows


def cells(line: str) -> list[str]:
    return [cell.strip().replace("**", "") for cell in line.strip().strip("|").split("|")]


def recipe(name: str) -> Any:
    return RECIPES[name]()


@pytest.fixture
def flop(monkeypatch):
    """TFLOP of (forward, learning with every activation computed twice) at full size, image and text tokens given."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from flop import flop as count  # pyright: ignore[reportMissingImports]

    def counted(image: int, text: int) -> tuple[float, float]:
        found = count(FluxConfig(), image, text, 272)
        return found.forward / 1e12, (found.forward + found.learning) / 1e12

    yield counted
    sys.modules.pop("flop")


NAMES = {
    "VQ": "vq",
    "VQ + unsharp mask": "vq+unsharp",
    "VQ without rounding to codes": "vq-unrounded",
    "DCDD": "dcdd",
    "DCDD at temperature 0": "cold",
    "DCDD in one step": "one_step",
    "VUGEN": "vugen",
    "MaDiT": "madit",
}
MEASURED = [
    *(
        ("Reconstruction of scenes", heading, "## Table 2", heading)
        for heading in ("PSNR (dB) ↑", "SSIM-uniform7 ↑", "PD-world ↓", "FD-world ↓")
    ),
    *(
        (after, heading, below, heading)
        for after, below in (
            ("Generation from captions", "## Table 3"),
            ("The same captions by VUGEN", "**Generation**"),
        )
        for heading in ("FD-world ↓", "coverage ↑", "agreement ↑")
    ),
]


@pytest.mark.parametrize(("after", "ours", "below", "measured"), MEASURED)
def test_a_column_of_the_readme_is_that_of_the_results(after, ours, below, measured):
    shown, full = table("README.md", after, ours), table("docs/results.md", below, measured)
    measured_rows = {label: row for label, row in shown.items() if ours in row}
    digits = max(len(str(row[ours]).partition(".")[2]) for row in measured_rows.values())
    for label, row in measured_rows.items():
        assert row[ours] == pytest.approx(full[NAMES[label]][measured], abs=0.51 * 10**-digits), label


def test_the_ratios_of_the_readme_are_quotients_of_the_results():
    def ratio(after: str, row: str = "dcdd") -> float:
        rows = table("docs/results.md", after, "FD-world ↓")
        return rows[row]["FD-world ↓"] / rows["vq"]["FD-world ↓"]

    known = "captions of the first 1,000 validation scenes"
    (paper,) = said("README.md", r"FD-world falls to ([\d.]+)x of the VQ decoder's")
    assert paper == pytest.approx(ratio("## Table 3"), abs=0.006)
    judged = table("docs/results.md", "## Table 3", other := "FD-efficientnet-lite0 ↓")
    paper_and_cold = r"taught, it falls to ([\d.]+)x, and to ([\d.]+)x at temperature 0"
    dcdd, cold, *fast = said("README.md", rf"{paper_and_cold}. In one step it is ([\d.]+)x and ([\d.]+)x")
    of_vq = [judged[name][other] / judged["vq"][other] for name in ("dcdd", "cold", "one_step")]
    assert [dcdd, cold, fast[1]] == pytest.approx(of_vq, abs=0.006)
    assert fast[0] == pytest.approx(ratio("## Table 3", "one_step"), abs=0.006)
    vq, dcdd, *ratios = said(
        "README.md", r"FD-world is ([\d.]+) for VQ and ([\d.]+) for DCDD, ([\d.]+)x where it is ([\d.]+)x above"
    )
    assert ratios == pytest.approx([ratio(known), ratio("## Table 3")], abs=0.006)
    assert dcdd / vq == pytest.approx(ratio(known), abs=0.006)
    strangers, fast = said(
        "README.md", r"never seen the gain shrinks to ([\d.]+)x in FD, and in one step it is a loss there, ([\d.]+)x"
    )
    assert strangers == pytest.approx(ratio("The second domain"), abs=0.006)
    assert fast == pytest.approx(ratio("The second domain", "one_step"), abs=0.006)


def test_what_the_readme_says_of_vugen_follows_from_the_results():
    bound = table("docs/results.md", "**Generation**", "colour attribution ↑")
    ours, theirs = said("README.md", r"colour attribution: ([\d.]+) where DCDD has ([\d.]+)")
    measured = [bound[name]["colour attribution ↑"] for name in ("vugen", "dcdd")]
    assert [ours, theirs] == pytest.approx(measured, abs=0.006)
    other = table("docs/results.md", "**Generation**", "FD-efficientnet-lite0 ↓")
    judged = {name: row["FD-efficientnet-lite0 ↓"] for name, row in other.items()}
    world = table("docs/results.md", "**Generation**", "FD-world ↓")
    (nearer,) = said("README.md", r"its FD-world is ([\d.]+)x of the VQ decoder's")
    assert nearer == pytest.approx(world["vugen"]["FD-world ↓"] / world["vq"]["FD-world ↓"], abs=0.006)
    (vugen,) = said("README.md", r"[Bb]y EfficientNet its FD is ([\d.]+)x of the VQ decoder's")
    assert vugen == pytest.approx(judged["vugen"] / judged["vq"], abs=0.006)
    known = table("docs/results.md", "Captions of the first 1,000 validation scenes", "agreement ↑")
    ours, theirs = said("README.md", r"judged right more often too \(([\d.]+) and ([\d.]+)\)")
    assert [ours, theirs] == pytest.approx([known[name]["agreement ↑"] for name in ("vugen", "dcdd")], abs=0.006)


def test_what_the_readme_says_of_madit_follows_from_the_results():
    both = ("FD-world ↓", "FD-efficientnet-lite0 ↓")
    found = []
    for after in ("**Reconstruction**, the 1,000 validation scenes of Table 2, 640 bits", "**Generation**"):
        rows = table("docs/results.md", after, both[1])
        found += [rows["madit"][name] / rows["vq"][name] for name in both]
    codes, texts = (
        r"come back at ([\d.]+)x of its FD-world and ([\d.]+)x by EfficientNet",
        r"they are at ([\d.]+)x and ([\d.]+)x",
    )
    numbers = said("README.md", f"{codes}; drawn from captions {texts}")
    assert numbers == pytest.approx(found, abs=0.006)


def test_the_ratios_of_table_2_are_quotients_of_its_rows():
    rows = table("docs/results.md", "## Table 2", "FD-world ↓")
    ours, vq = rows["dcdd"], rows["vq"]
    distance, paper = said("docs/results.md", r"that is \*\*([\d.]+)×\*\* \(the paper on ImageNet: ([\d.]+)×")
    before, after = (row.numbers["rfid"] for row in ROWS["dcdd-imagenet"][:2])
    assert [distance, paper] == pytest.approx([ours["FD-world ↓"] / vq["FD-world ↓"], after / before], abs=0.006)
    perceptual, similarity, decibels = said(
        "docs/results.md", r"PD ([\d.]+)× \(goal [^)]*\), SSIM ([\d.]+)× \(goal [^)]*\), PSNR \+([\d.]+) dB"
    )
    assert ours["PD-world ↓"] / vq["PD-world ↓"] == pytest.approx(perceptual, abs=0.006)
    assert ours["SSIM-uniform7 ↑"] / vq["SSIM-uniform7 ↑"] == pytest.approx(similarity, abs=0.006)
    assert ours["PSNR (dB) ↑"] - vq["PSNR (dB) ↑"] == pytest.approx(decibels, abs=0.011)


def test_the_two_windows_of_ssim_differ_as_the_page_says():
    both = [
        row["SSIM-uniform7 ↑"] - row["SSIM-gaussian11 ↑"]
        for after in ("## Table 2", "The second domain")
        for row in table("docs/results.md", after, "SSIM-gaussian11 ↑").values()
    ]
    assert len(both) >= 10
    least, most = said("docs/evaluation.md", r"two customs differ, by (\.\d+) to (\.\d+) in \[Table 2\]")
    assert [min(both), max(both)] == pytest.approx([least, most], abs=5e-4)


def test_the_torch_that_the_readme_allows_is_the_package_s():
    (allowed,) = re.findall(r"a CPU build of torch \(`(<[\d.]+)`\)", page("README.md"))
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert next(one for one in dependencies if one.startswith("torch>")).endswith(f",{allowed}")


def test_the_picture_of_the_readme_shows_all_prompts_of_its_file():
    (count,) = said("README.md", r"!\[(\d+) prompts, unselected")
    assert count == len((ROOT / "runs" / "prompts24.txt").read_text().splitlines())


def test_an_observer_keeps_as_many_numbers_a_token_as_the_readme_says():
    (numbers,) = said("README.md", r"what they return, (\d+) numbers a token")
    embedded = DCDDConfig.from_yaml(resolve("mini/dcdd") / "decoder.yaml")
    d = load_tensors(resolve("mini/dcdd") / "codebook.safetensors")["codebook"].shape[1]
    assert numbers == embedded.lcdm.num_features(d) == Expectation().num_features(8)


@pytest.fixture(scope="module")
def janus() -> nn.Module:
    """Janus-Pro-7B without its numbers."""
    with torch.device("meta"):
        return JanusForConditionalGeneration(janus_config(JANUS_PRO_7B))


def count(*parts: nn.Module) -> int:
    return sum(weight.numel() for part in parts for weight in part.parameters())


def test_the_files_of_janus_have_the_size_of_its_parameters(janus):
    (size,) = said("README.md", r"The weights \(about (\d+) GB\) come from the Hub")
    assert 2 * count(janus) / 1e9 == pytest.approx(size, abs=0.5)


def test_the_hours_of_full_size_training_are_the_formula_s_at_400_teraflop_a_second(flop):
    run = recipe("dcdd.janus_pro_7b")
    steps, batch, hours, text = said(
        "README.md",
        r"([\d,]+) steps of (\d+) pictures are about (\d+) H100 hours in all with its (\d+) empty text tokens",
    )
    (none,) = said("README.md", r"H100 hours in all with its \d+ empty text tokens, and (\d+) with none")
    assert (steps, batch, text) == (run.train.steps, run.train.batch_size, run.decoder.net.text.num_tokens)
    computed = [steps * batch * flop(576, tokens)[1] * 1e12 / RATE / 3600 for tokens in (0, 512)]
    assert [none, hours] == [round(one) for one in computed]
    again = said(
        "docs/training.md",
        r"are (\d+) H100 hours with no text tokens and (\d+) with the 512 empty ones that the recipe takes",
    )
    assert again == [none, hours]
    for name in ("README.md", "docs/training.md"):
        assert "assumed 400 TFLOP/s" in page(name)


def test_computing_activations_twice_costs_what_the_page_says(flop):
    (more,) = said("docs/training.md", r"where it is (\d+) % more arithmetic \(computed\)")
    for text in (0, 512):
        forward, both = flop(576, text)
        assert 100 * forward / (both - forward) == pytest.approx(more, abs=1)
    (slower,) = said("docs/training.md", r"on a CPU it costs (\d+) %")
    images = [
        said("docs/training.md", rf"\| {kind} \| [\d.]+ \| ([\d.]+) \|")[0]
        for kind in ("fp32", "fp32, recomputed activations")
    ]
    assert 100 * (images[0] / images[1] - 1) == pytest.approx(slower, abs=0.5)


def test_the_run_scripts_give_the_same_hours(flop):
    whole, none = said(
        "runs/table2_janus.sh", r"about (\d+) H100 hours in all with the recipe's 512 text tokens, (\d+) with none"
    )
    row, row_none = said("runs/table4_janus.sh", r"(\d+) H100 hours per row to train, (\d+) with no text tokens")
    hours = [1.6e6 * flop(576, text)[1] * 1e12 / RATE / 3600 for text in (512, 0)]
    assert [whole, none] == [round(one) for one in hours]
    assert [row, row_none] == [round(one / 5) for one in hours]
    (share,) = said("runs/table7_llamagen.sh", r"Takes ([\d.]+) of Janus' tables")
    assert share == pytest.approx(flop(256, 512)[0] / flop(576, 512)[0], abs=0.05)


def test_sampling_costs_what_the_formula_says(flop):
    none, text = said(
        "docs/performance.md", r"30 steps of the decoder are (\d+) TFLOP an image with no text and (\d+) with 512"
    )
    assert 30 * flop(576, 0)[0] == pytest.approx(none, abs=5)
    assert 30 * flop(576, 512)[0] == pytest.approx(text, abs=5)
    fast, slow, rate = said("docs/performance.md", r"tiny size\): ([\d.]+) s and ([\d.]+) s at the (\d+) TFLOP/s")
    assert [none / rate, text / rate] == pytest.approx([fast, slow], abs=0.05)


def test_a_token_of_the_7b_shape_reads_as_many_bytes_as_the_page_says(janus):
    inner = janus.model
    blocks, head = said(
        "docs/performance.md", r"reads ([\d.]+) GB of bf16 blocks and ([\d.]+) GB of fp32 head and bridge"
    )
    assert 2 * count(inner.language_model.layers) / 1e9 == pytest.approx(blocks, abs=0.05)
    assert 4 * count(inner.generation_head) / 1e9 + 2 * count(inner.generation_aligner) / 1e9 == pytest.approx(
        head, abs=0.006
    )
    rate, step, image = said(
        "docs/performance.md",
        r"at the ([\d.]+) TB/s a copy reached on an H100 here that is about ([\d.]+) ms, ([\d.]+) s for 576 tokens",
    )
    assert (blocks + head) / rate == pytest.approx(step, abs=0.05)
    assert 0.576 * step == pytest.approx(image, abs=0.05)


def test_guidance_30_in_half_precision_is_what_the_page_says():
    (guidance,) = said("docs/performance.md", r"guidance 30 enters as ([\d.]+)")
    assert (1000 * torch.tensor(30.0, dtype=torch.bfloat16)).item() / 1000 == guidance


def test_the_bench_script_makes_as_many_rows_as_the_page_says():
    rows = re.findall(r"^bench \S", (ROOT / "runs" / "gpu_bench.sh").read_text(), re.MULTILINE)
    assert "all eleven rows" in page("docs/performance.md")
    assert len(rows) == 11


def test_the_cache_of_a_full_size_run_takes_what_the_page_says():
    kilobytes, gigabytes = said("docs/training.md", r"that is (\d+) KB an image, (\d+) GB for ImageNet")
    run, half = recipe("dcdd.janus_pro_7b"), 2
    tokens, latents = (run.images.size // run.decoder.token_stride) ** 2, (run.images.size // 8) ** 2
    an_image = half * (8 * tokens + 16 * latents)
    assert an_image / 1e3 == pytest.approx(kilobytes, abs=0.5)
    assert IMAGENET * an_image / 1e9 == pytest.approx(gigabytes, abs=0.5)


def test_the_time_of_the_embedded_decoder_s_training_is_steps_times_seconds_a_step():
    low, high = said(
        "docs/training.md", r"detok train dcdd\.mini --out out/mini # (\d+) to (\d+) hours on one CPU core"
    )
    steps, hours = said("docs/training.md", r"the recipe's ([\d,]+) steps are ([\d.]+) hours there")
    (seconds,) = said("docs/training.md", r"\| fp32 \| ([\d.]+) \|")
    assert steps == recipe("dcdd.mini").train.steps
    assert steps * seconds / 3600 == pytest.approx(hours, abs=0.05)
    taken, minutes = said("docs/training.md", r"The ([\d,]+) steps of `ours` in results.md took (\d+) minutes")
    row = cells(
        next(
            line
            for line in (ROOT / "docs" / "results.md").read_text().splitlines()
            if line.startswith("| ours | `dcdd.mini`")
        )
    )
    assert sum(map(int, row[3].split(", "))) == minutes
    assert f"{taken:,.0f} x {recipe('dcdd.mini').train.batch_size}" == row[2]
    assert round(minutes / 60) == low
    assert round(hours) == high
    assert f"{low:.0f} to {high:.0f} hours on one core" in (inspect.getdoc(RECIPES["dcdd.mini"]) or "")


def test_the_embedded_decoder_learns_as_many_parameters_as_the_page_says():
    (millions,) = said("docs/training.md", r"`dcdd\.mini` \(([\d.]+) M parameters that learn\)")
    weights = load_tensors(resolve("mini/dcdd") / "decoder.safetensors")
    assert sum(weight.numel() for weight in weights.values()) / 1e6 == pytest.approx(millions, abs=0.02)


PARTS = {
    "judge": ["mini.world_net"],
    "latent space": ["mini.autoencoder", "mini.autoencoder_decoder"],
    "tokenizer": ["mini.tokenizer", "mini.tokenizer_decoder"],
}


@pytest.mark.parametrize("part", PARTS)
def test_the_table_of_trainings_gives_the_steps_of_the_recipes_and_these_its_minutes(part):
    text = (ROOT / "docs" / "results.md").read_text().split("## Training of the embedded parts")[1]
    row = next(cells(line) for line in text.splitlines() if line.startswith(f"| {part} |"))
    runs = [recipe(name).train for name in PARTS[part]]
    assert row[2] == ", ".join(f"{run.steps:,} x {run.batch_size}" for run in runs)
    minutes = [re.search(r"(\d+) minutes on one core", inspect.getdoc(RECIPES[name]) or "") for name in PARTS[part]]
    assert row[3] == ", ".join(found[1] for found in minutes if found)


def test_the_world_is_as_large_as_the_pages_say():
    world = World()
    sizes = said("docs/results.md", r"64 px world of (\d+) nouns, (\d+) colours, (\d+) backgrounds")
    assert sizes == [len(world.nouns), len(COLOURS), len(world.backgrounds)]
    (strangers,) = said("docs/results.md", r"scenes with the (\d+) objects that no training has shown")
    assert strangers == len(HELD_OUT)
    alone = [Truth("single", (Thing(noun),), ground) for noun in world.nouns for ground in world.backgrounds]
    new = [truth for truth in alone if reserved(truth) and seen_colour(truth.objects[0]) != truth.background]
    assert len(new) == 9
    assert "few new captions of one object (nine in the default world)" in page("docs/benchmarks.md")


def test_geneval_s_rules_are_the_numbers_of_the_page():
    lines, *tasks = said(
        "docs/benchmarks.md",
        r"`evaluation_metadata\.jsonl`, (\d+) lines: (\d+), (\d+), (\d+), (\d+), (\d+) and (\d+) a task",
    )
    assert tasks == list(TASKS.values())
    assert lines == sum(tasks)
    rules = said(
        "docs/benchmarks.md",
        r"confidence above (\.\d+) \((\.\d+)\s+when counting\), (\d+) objects a class",
    )
    assert rules == [CONFIDENCE, COUNTING_CONFIDENCE, MAX_OBJECTS]


def test_every_protocol_stands_in_the_table_with_its_pictures_and_its_size():
    rows = re.findall(
        r"^\| (`[^|]+`) \| ([^|]+) \| ([^|]+) \|", (ROOT / "docs" / "evaluation.md").read_text(), re.MULTILINE
    )
    listed = set()
    for names, pictures, number in rows:
        if not re.fullmatch(r"any|[\d, ]+", number):
            continue
        numbers = [
            None if part.strip() == "any" else int(part.replace(",", "")) for part in re.split(r", (?=\d)", number)
        ]
        for at, name in enumerate(re.findall(r"`([^`]+)`", names)):
            if name not in PROTOCOLS:
                continue
            listed.add(name)
            found = PROTOCOLS[name]()
            assert found.num_images == numbers[min(at, len(numbers) - 1)], name
            size = re.match(r"(\d+) px", pictures)
            assert found.size == (int(size[1]) if size else None), name
    assert listed == set(PROTOCOLS)


def test_every_published_network_stands_in_the_table_with_its_hash_and_its_size():
    text = (ROOT / "docs" / "metrics-networks.md").read_text()
    for name, network in NETWORKS.items():
        row = next(line for line in text.splitlines() if line.startswith("|") and name in line)
        assert (network.sha256 or "not confirmed") in row
        number, unit = re.search(r"([\d.]+) (MB|GB)", row).groups()
        assert float(number) * {"MB": 1e6, "GB": 1e9}[unit] == pytest.approx(network.bytes, rel=0.02), name


def test_lpips_has_as_many_weights_as_the_page_says():
    (count,) = said("docs/metrics-networks.md", r"learned channel weights of LPIPS v0\.1 \(([\d,]+) numbers")
    alex, vgg = (64, 192, 384, 256, 256), (64, 128, 256, 512, 512)
    assert count == sum(alex) + sum(vgg)


def test_a_recipe_s_docstring_gives_the_numbers_of_the_paper():
    def numbers(name: str) -> str:
        return inspect.getdoc(RECIPES[f"dcdd.{name}"]) or ""

    def published(protocol: str, label: str, metric: str) -> float:
        rows = [row for row in ROWS[protocol] if label in row.label and metric in row.numbers]
        return rows[0].numbers[metric]

    for name, label in (("hard", "hard codes"), ("lcdm", "LCDM, 10K"), ("lc", "LCDM + LC")):
        assert f"ImageNet rFID {published('dcdd-imagenet', label, 'rfid'):.4f}" in numbers(f"janus_pro_7b_{name}")
    for name, vlm, size in (("janus_pro_7b", "Janus-Pro-7B", ""), ("llamagen_xl", "LlamaGen-XL", "-256")):
        pairs = [
            (before, published(protocol, f"{vlm} DCDD", metric))
            for protocol, metric in ((f"dcdd-imagenet{size}", "rfid"), (f"dcdd-mjhq{size}", "fid"))
            for before in [published(protocol, f"{vlm} VQ", metric)]
        ]
        assert f"rFID {pairs[0][0]:.4f} -> {pairs[0][1]:.4f}" in numbers(name)
        assert f"gFID {pairs[1][0]:.2f} -> {pairs[1][1]:.2f}" in numbers(name)


def test_a_recipe_belongs_to_the_tables_its_vlm_has_in_the_paper():
    for name, vlm in (("janus_pro_7b", "Janus-Pro-7B DCDD"), ("llamagen_xl", "LlamaGen-XL DCDD")):
        sources = {row.source for rows in ROWS.values() for row in rows if row.label == vlm}
        tables = sorted(source.removeprefix("DCDD, Table ") for source in sources)
        assert (inspect.getdoc(RECIPES[f"dcdd.{name}"]) or "").startswith(f"Tables {' and '.join(tables)}")


def test_the_page_of_the_paper_gives_the_defaults_of_the_search():
    settings, weights = SearchConfig(), SearchConfig().weights
    entropy, confidence, tails = said(
        "docs/dcdd.md", r"mean entropy (\d+), mean confidence (\.\d+), both 95th percentiles (\.\d+)"
    )
    assert (weights.mean_entropy, weights.mean_confidence) == (entropy, confidence)
    assert weights.q95_entropy == weights.q95_confidence == tails
    (*bounds, tolerance) = said(
        "docs/dcdd.md", r"κ from (\d+) to (\d+) by bisection.{0,250}?entropies differ by at most (\.\d+)"
    )
    assert settings.kappa_range is None
    assert (*PAPER_RANGE, settings.tolerance) == (*bounds, tolerance)


def test_what_the_page_of_the_paper_computes_by_hand_is_right():
    (ceiling,) = said("docs/dcdd.md", r"ln 1000 / ln 16384 = (\.\d+)")
    assert math.log(1000) / math.log(16384) == pytest.approx(ceiling, abs=5e-4)
    tokens, channels = said("docs/dcdd.md", r"(\d+) tokens of 4 · \(64 \+ 4\) = (\d+) numbers")
    assert (tokens, channels) == (24**2, 4 * (64 + 4))
    assert "about six random tokens" in page("docs/dcdd.md")
    assert round(0.01 * 576) == 6
