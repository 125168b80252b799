"""Every recipe builds and trains two steps over a tiny stack; full-size ones have the paper's sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detokenizers.cli import main
from detokenizers.data.images import notes_of, save_png
from detokenizers.data.sources import WorldImages, shuffled_rows
from detokenizers.madit.conditions import OBSERVED
from detokenizers.madit.distributions import Both
from detokenizers.madit.language_runs import LanguageRun
from detokenizers.madit.loading import load_language
from detokenizers.madit.model import MaDiT
from detokenizers.madit.orders import PATCH_KL
from detokenizers.madit.recipes import MINI_MODEL, RECIPES, general_512, imagenet_512_flow, qwen_7b, qwen_7b_instruct
from detokenizers.madit.vocabulary import Vocabulary
from detokenizers.pretrained.vlm.loading import load_tokenizer
from detokenizers.protocols import VisualTokens
from detokenizers.training import train

from .. import stack
from . import tiny

MINI = [name for name in RECIPES if ".mini" in name]
CAPTIONS = ["a red apple on a yellow background", "two apples"]


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    """Random rows for the tiny world's words."""
    folder = tmp_path_factory.mktemp("words")
    names = stack.WORLD.vocabulary
    Vocabulary(names, torch.randn(len(names), 8, generator=torch.Generator().manual_seed(0))).save(folder)
    return folder


def small(run: Any, out: Path, words: Path) -> Any:
    """The same recipe over the tiny stack; settings it does not have are left out."""
    wanted: dict[str, Any] = {
        "train.steps": 2,
        "train.batch_size": 4,
        "train.log_every": 1,
        "train.warmup": 1,
        "images": WorldImages(world=stack.WORLD.config, count=16),
        "cache": str(out / "cache"),
        "exact": 16,
        "model.codes.image_size": stack.PIXELS,
        "model.codes.codes": 8,
        "model.codes.dim": 6,
        "model.codes.adapter": {"width": 8, "blocks": 1, "groups": 4},
        "model.words": str(words),
        "model.trunk.width": 16,
        "model.trunk.encoder": 1,
        "model.trunk.decoder": 1,
        "model.trunk.heads": 2,
        "model.head.width": 16,
        "model.head.blocks": 1,
        "schedule.unquantised": 1,
        "schedule.frozen": None,
        "schedule.collect": 64,
        "model.hidden": 32,
        "model.layers": 1,
        "model.heads": 2,
        "model.intermediate": 32,
    }
    for name in ("start", "tokenizer", "language"):
        if getattr(run, name, None):
            wanted[name] = str(out / Path(getattr(run, name)).name)
    for key, value in wanted.items():
        try:
            run = run.vary({key: value})
        except ValueError as error:
            if "has no setting" not in str(error) and "nothing lies within" not in str(error):
                raise
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory, words, tiny_stack):
    """All mini recipes, each from the folder of the one it starts from."""
    out, losses = tmp_path_factory.mktemp("out"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detokenizers.checkpoint.EMBEDDED", tiny_stack)
        for name in MINI:
            run = small(RECIPES[name](), out, words)
            losses[name] = train(run.job(), run.train, out / name.removeprefix("madit."))
            (out / name.removeprefix("madit.") / "run.yaml").write_text(run.to_yaml())
    return out, losses


@pytest.mark.parametrize("name", MINI)
def test_a_recipe_trains_exports_and_is_loaded(name, trained, embedded):
    out, losses = trained
    folder = out / name.removeprefix("madit.")
    assert losses[name]["loss"] > 0
    run = RECIPES[name]()
    assert run.recipe == name
    if isinstance(run, LanguageRun):
        vlm = load_language(folder)
        tokens = vlm.generate(CAPTIONS, seeds=[0, 1])
        madit = MaDiT.load(out / "mini_flow")
        madit.require(vlm.tokenizer)
        assert madit(tokens).shape == (2, 3, 16, 16)
        assert vlm.tokenizer.decode(vlm.tokenizer.codebook[tokens.ids]).shape == (2, 3, 16, 16)
        return
    model = MaDiT.load(folder)
    assert model.config.sampling.rounds == MINI_MODEL.sampling.rounds
    images = stack_images()
    reader = load_tokenizer("mini") if name == "madit.mini_janus" else model.codes
    tokens = model.read(images, reader)
    captions = CAPTIONS if model.vocabulary else None
    assert model(replace(tokens, captions=captions)).shape == images.shape


def stack_images() -> torch.Tensor:
    return WorldImages(world=stack.WORLD.config, count=2).open().images(range(2))


def test_a_language_model_s_distributions_reach_a_decoder_that_reads_them(trained, embedded):
    out, _ = trained
    vlm, madit = load_language(out / "mini_language"), MaDiT.load(out / "mini_distributions")
    tokens = vlm.generate(CAPTIONS, seeds=[0, 1], observe=madit.observers)
    (name,) = madit.needs
    decided = Both().decided(madit.codes, tokens.ids)
    assert tokens.observed[name].shape == decided.shape
    images = madit(tokens)
    assert images.shape == (2, 3, 16, 16)
    assert not torch.equal(images, madit(VisualTokens(tokens.ids, tokens.grid, {name: decided})))


def test_training_reads_the_language_model_s_distributions_about_true_tokens(trained, embedded, words):
    out, _ = trained
    job = small(RECIPES["madit.mini_distributions"](), out, words).job()
    batch, rows = job.batches(0, 4), shuffled_rows(0, 4, 16)
    source = WorldImages(world=stack.WORLD.config, count=16).open()
    vlm, model = load_language(out / "mini_language"), MaDiT.load(out / "mini_distributions")
    ids = vlm.tokenizer.tokens(vlm.tokenizer.features(source.images(rows)))
    (seen,) = vlm.teacher_forced(source.captions(rows), ids, observe=model.observers).observed.values()
    torch.testing.assert_close(batch[OBSERVED], seen, atol=2e-3, rtol=2e-3)
    assert model.config.input.conditions.sharpness != Both().conditions.sharpness
    hard = small(RECIPES["madit.mini_more"](), out, words)
    with pytest.raises(ValueError, match="hard tokens read no distributions"):
        hard.vary(language=str(out / "mini_language")).job()


def drawn(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in folder.glob("*.png")}


def test_generate_takes_a_language_model_and_decoders_of_its_codes(trained, embedded, tmp_path, capsys):
    out, _ = trained
    ask = [
        "--vlm",
        str(out / "mini_language"),
        "--decoder",
        "vq",
        str(out / "mini_flow"),
        str(out / "mini_distributions"),
    ]
    assert main(["generate", *CAPTIONS, *ask, "--steps", "2", "--out", str(tmp_path / "out")]) == 0
    pictures = [drawn(tmp_path / "out" / name) for name in ("vq", "mini_flow", "mini_distributions")]
    assert [len(folder) for folder in pictures] == [2, 2, 2]
    assert len({picture for folder in pictures for picture in folder.values()}) == 6
    # How many codes there are is written beside the tokens: counting them needs no paper's VLM.
    how = ["--world", "3", "--metrics", "codebook", "fd-world", "--resamples", "0", "--allow", "any-n"]
    assert main(["evaluate", str(tmp_path / "out"), *how, "--out", str(tmp_path / "scores")]) == 0
    found = json.loads((tmp_path / "scores" / "results.json").read_text())
    assert 0 < found["decoders"]["vq"]["metrics"]["codebook_usage"]["value"] <= 1
    capsys.readouterr()
    assert main(["generate", CAPTIONS[0], *ask[:2], "--decoder", "mini/dcdd", "--out", str(tmp_path / "no")]) == 2
    assert "trained for 64 codes of 8 numbers, but this VLM has 8 of 6" in capsys.readouterr().err
    assert main(["describe", "--vlm", str(out / "mini_language"), "--world", "1"]) == 2
    assert "not 'janus'" in capsys.readouterr().err


def test_reconstruct_gives_a_decoder_the_captions_beside_the_pictures(trained, embedded, tmp_path, capsys):
    out, _ = trained
    madit, images = out / "mini_sixteen_both_flow", stack_images()
    for number, image in enumerate(images):
        save_png(tmp_path / "in" / f"{number}.png", image, {})
    (tmp_path / "in" / "1.txt").write_text(CAPTIONS[1] + "\n")
    ask = ["reconstruct", str(tmp_path / "in"), "--vlm", str(madit), "--decoder", "vq", str(madit), "--steps", "2"]
    assert main([*ask, "--out", str(tmp_path / "out")]) == 0
    found = tmp_path / "out" / madit.name
    assert "caption" not in notes_of(found / "0.png")
    assert notes_of(found / "1.png")["caption"] == CAPTIONS[1]
    (tmp_path / "in" / "1.txt").unlink()
    assert main([*ask, "--out", str(tmp_path / "silent")]) == 0
    one, other = drawn(found), drawn(tmp_path / "silent" / madit.name)
    assert one["0"] == other["0"]
    assert one["1"] != other["1"]
    (tmp_path / "in" / "1.txt").write_text("two zebras")
    capsys.readouterr()
    assert main([*ask, "--out", str(tmp_path / "refused")]) == 2
    assert "the word 'zebras' of 'two zebras'" in capsys.readouterr().err


def test_janus_codes_are_decoded_beside_its_own_decoder(trained, embedded, tmp_path, capsys):
    out, _ = trained
    ask = ["--decoder", "vq", "mini/dcdd", str(out / "mini_janus"), "--steps", "2"]
    assert main(["generate", "a dog on grass", *ask, "--out", str(tmp_path / "out")]) == 0
    assert main(["reconstruct", "--world", "2", *ask, "--out", str(tmp_path / "back")]) == 0
    assert len(drawn(tmp_path / "back" / "mini_janus")) == 2
    borrowed = ["reconstruct", "--world", "2", "--vlm", str(out / "mini_janus"), "--out", str(tmp_path / "no")]
    assert main(borrowed) == 2
    assert "borrows its codes; name the VLM" in capsys.readouterr().err


def test_stage_two_begins_with_what_stage_one_learnt(trained, embedded):
    out, _ = trained
    one, two = MaDiT.load(out / "mini"), MaDiT.load(out / "mini_flow")
    assert torch.equal(one.codes.codebook, two.codes.codebook)
    assert torch.equal(one.codes.codewords.kl, two.codes.codewords.kl)
    assert one.codes.fingerprint() == two.codes.fingerprint()
    moved = (one.trunk.mask_token - two.trunk.mask_token).abs().max()
    assert 0 < moved < 0.1
    tokens = one.read(stack_images(), one.codes)
    assert PATCH_KL in tokens.observed


def test_a_state_can_be_kept_before_there_are_codes(words, tmp_path, embedded):
    run = small(RECIPES["madit.mini"](), tmp_path, words)
    run = run.vary({"schedule.unquantised": 2, "train.steps": 4, "train.save_minutes": 0})
    train(run.job(), run.train, tmp_path / "run")
    assert (tmp_path / "run" / "preview.png").exists()


def test_stage_two_wants_one_start(words, tmp_path, embedded):
    run = small(RECIPES["madit.mini_janus"](), tmp_path, words)
    for changes in ({"vlm": None}, {"start": "somewhere"}):
        with pytest.raises(ValueError, match="name one"):
            run.vary(changes).job()


def test_text_needs_its_table(tmp_path):
    with pytest.raises(ValueError, match="needs a table of words"):
        MINI_MODEL.vary({"trunk.text": "encoder", "words": None}).build()


def test_the_full_model_has_the_paper_s_sizes(vae):
    config = general_512().model
    assert (config.codes.image_size, config.codes.codes) == (512, 65_536)
    assert config.sampling.rounds == 64
    assert config.sampling.decoding.steps == 10
    layout_side = 512 // 8 // config.codes.patch
    assert layout_side**2 == 1024
    with torch.device("meta"):
        from detokenizers.madit.heads import Head
        from detokenizers.madit.masked import MaskedTransformer
        from detokenizers.madit.patches import Layout
        from detokenizers.protocols import Grid

        trunk = MaskedTransformer(config.trunk, Layout(Grid(32, 32)), config.codes.dim, 64, 3584)
        head = Head(imagenet_512_flow().model.head, config.trunk.width, 64)
    millions = {
        name: sum(parameter.numel() for parameter in part.parameters()) / 1e6
        for name, part in (("encoder", trunk.encoder), ("decoder", trunk.decoder), ("head", head.net))
    }
    assert millions == pytest.approx({"encoder": 566, "decoder": 566, "head": 152}, abs=1.5)
    whole = sum(parameter.numel() for part in (trunk, head) for parameter in part.parameters()) / 1e9
    assert whole == pytest.approx(1.29, abs=0.01)


def test_the_language_recipes_have_the_paper_s_settings():
    first, second = qwen_7b(), qwen_7b_instruct()
    assert (first.train.batch_size, first.train.lr, first.train.weight_decay) == (1024, 1e-4, 0.0)
    assert first.train.steps == 97_656
    assert second.train.lr == 2e-5
    assert second.start == "out/madit/qwen_7b"
    assert second.train.warmup / second.train.steps == pytest.approx(0.03, abs=0.002)


def test_a_growing_vocabulary_of_qwen_7b_has_the_published_rows():
    """152,064 rows, not the 151,665 words of its tokenizer, are what the first visual word comes after."""
    from detokenizers.pretrained.vlm.visual_vocabulary import VisualVocabulary

    vocabulary = VisualVocabulary(first=152_064, codes=65_536)
    assert (vocabulary.boi, vocabulary.eoi, vocabulary.rows) == (217_600, 217_601, 217_728)


def test_embedded_words_are_those_of_the_world():
    vocabulary = Vocabulary.load("mini/words")
    from detokenizers.data.world.world import World

    assert vocabulary.names == World().vocabulary
    assert vocabulary.rows.shape == (203, 576)
    rows = torch.nn.functional.normalize(vocabulary.rows, dim=-1)

    def cosine(one: str, other: str) -> float:
        return float(rows[vocabulary.numbers[one]] @ rows[vocabulary.numbers[other]])

    assert cosine("red", "blue") > cosine("red", "two") + 0.05
    assert cosine("apple", "apples") > cosine("apple", "blue") + 0.05
    assert tiny.vocabulary().names[0] == "a"
