"""LlamaGen: the port against a reference under official names, its loading, its captions."""

from __future__ import annotations

import argparse
import pickle
import shutil
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import T5Config, T5EncoderModel

from detokenizers.checkpoint import fingerprint
from detokenizers.pretrained.vlm.llamagen import STAGES, LlamaGen, LlamaGenSize, LlamaGenVLM, raster_angles
from detokenizers.pretrained.vlm.loading import load_tokenizer, load_vlm
from detokenizers.pretrained.vlm.t5_captions import Captions, T5Captions, clean_caption, left_padded
from detokenizers.pretrained.vq_weights import build_vq
from detokenizers.pretrained.weights import llamagen_files as llamagen_weights
from detokenizers.pretrained.weights.formats import tensors_in
from detokenizers.pretrained.weights.llamagen_files import gpt_tensors, half_split, vq_tensors
from detokenizers.protocols import TokenVLM
from tests.pretrained.tiny import LOGITS, SOFTMAX, tiny_tokenizer
from tests.pretrained.vlm.llamagen_reference import ReferenceGPT, ReferenceVQ

TINY = LlamaGenSize(
    hidden=32, layers=2, heads=2, intermediate=48, grid=4, codebook=64, caption_dim=12, caption_length=7,
    vq_channels=32, vq_multipliers=(1, 2), vq_blocks=1, vq_latent=32,
)  # fmt: skip
PROMPTS = ["a red apple", "two dog and cat"]
TABLE = {
    "a red apple": torch.randn(3, 12, generator=torch.Generator().manual_seed(0)),
    "two dog and cat": torch.randn(5, 12, generator=torch.Generator().manual_seed(1)),
}


class Table:
    """A `CaptionEncoder` without ten gigabytes of T5."""

    def check(self, prompts: Sequence[str]) -> None:
        """Every prompt of these tests has features."""

    def __call__(self, prompts: Sequence[str]) -> Captions:
        rows = [TABLE[prompt] for prompt in prompts]
        features = torch.stack([F.pad(row, (0, 0, 0, 7 - len(row))) for row in rows])
        return left_padded(features, torch.arange(7) < torch.tensor([[len(row)] for row in rows]))


@pytest.fixture(scope="module")
def reference() -> ReferenceGPT:
    """Weights large enough that logits reach several tens."""
    torch.manual_seed(0)
    model = ReferenceGPT(TINY).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(0, 1.5 * weight.shape[1] ** -0.5)
        model.output.weight *= 10
    return model


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    """Files as the official ones are: tensors under 'model', beside the training arguments."""
    path = tmp_path_factory.mktemp("llamagen")
    torch.manual_seed(1)
    vq = ReferenceVQ(TINY)
    extra = {"optimizer": {}, "steps": 3, "args": argparse.Namespace(lr=1e-4)}
    torch.save({"model": reference.state_dict()} | extra, path / "t2i_XL_stage1_256.pt")
    torch.save({"model": vq.state_dict()} | extra, path / "vq_ds16_t2i.pt")
    return path


@pytest.fixture(scope="module")
def vlm(folder) -> LlamaGenVLM:
    return LlamaGenVLM.from_folder(folder, size=TINY, captions=Table())


def reference_logits(reference: ReferenceGPT, ids: torch.Tensor, guidance: float) -> torch.Tensor:
    features, visible = Table()(PROMPTS)
    blank = reference.get_buffer("cls_embedding.uncond_embedding").expand_as(features)
    with torch.no_grad():
        cond, uncond = (reference(prefix, visible, ids[:, :-1]) for prefix in (features, blank))
    return uncond + guidance * (cond - uncond)


def test_a_llamagen_vlm_is_a_token_vlm(vlm):
    assert isinstance(vlm, TokenVLM)


def test_the_port_gives_the_logits_of_the_reference_at_every_step(vlm, reference):
    drawn = vlm.generate(PROMPTS, seeds=[0, 1], observe=LOGITS)
    logits = reference_logits(reference, drawn.ids, guidance=7.5)
    assert logits.abs().max() > 75
    assert (drawn.observed["logits"] - logits).abs().max() < 1e-3
    forced = vlm.teacher_forced(PROMPTS, drawn.ids, observe=LOGITS).observed["logits"]
    assert (forced - logits).abs().max() < 1e-3


def test_the_parity_would_notice_an_identity_rotation_of_the_prefix(folder, reference, monkeypatch):
    def identity_prefix(size, length, like):
        angles = raster_angles(size, length, like)
        angles.cos[: size.caption_length] = 1
        return angles

    monkeypatch.setattr("detokenizers.pretrained.vlm.llamagen.raster_angles", identity_prefix)
    wrong = LlamaGenVLM.from_folder(folder, size=TINY, captions=Table())
    ids = torch.arange(32).view(2, 16)
    forced = wrong.teacher_forced(PROMPTS, ids, observe=LOGITS).observed["logits"]
    assert (forced - reference_logits(reference, ids, 7.5)).abs().max() > 1


def test_the_parity_would_notice_rows_left_interleaved(folder, reference, monkeypatch):
    monkeypatch.setattr(llamagen_weights, "half_split", lambda rows, heads: rows)
    wrong = LlamaGenVLM.from_folder(folder, size=TINY, captions=Table())
    ids = torch.arange(32).view(2, 16)
    forced = wrong.teacher_forced(PROMPTS, ids, observe=LOGITS).observed["logits"]
    assert (forced - reference_logits(reference, ids, 7.5)).abs().max() > 1


def test_rows_are_reordered_within_their_head():
    rows = torch.arange(8)[:, None].float()
    assert half_split(rows, heads=2).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_an_item_depends_on_its_prompt_and_seed_not_on_its_batch(vlm):
    together = vlm.generate(PROMPTS, seeds=[5, 6])
    alone = [vlm.generate([p], seeds=[s]).ids for p, s in zip(PROMPTS, [5, 6], strict=True)]
    assert torch.equal(together.ids, torch.cat(alone))


@pytest.mark.parametrize("guidance", [1.0, 0.5, 0.0, -2.0])
def test_guidance_of_one_and_less_is_none_as_officially(vlm, reference, guidance):
    ids = torch.arange(32).view(2, 16)
    conditional = reference_logits(reference, ids, 1.0)
    forced = vlm.teacher_forced(PROMPTS, ids, guidance=guidance, observe=LOGITS).observed["logits"]
    assert (forced - conditional).abs().max() < 1e-3
    drawn = vlm.generate(PROMPTS, seeds=[0, 1], guidance=guidance)
    assert torch.equal(drawn.ids, vlm.generate(PROMPTS, seeds=[0, 1], guidance=1.0).ids)


def test_top_k_narrows_the_draw_but_not_the_observed_distribution(vlm):
    drawn = vlm.generate(PROMPTS, seeds=[0, 1], top_k=1, observe=SOFTMAX)
    assert torch.equal(drawn.ids, vlm.generate(PROMPTS, seeds=[7, 8], greedy=True).ids)
    assert (drawn.observed["p"] > 0).sum(-1).float().mean() > 1


def test_it_draws_from_its_own_number_of_codes_unless_told_otherwise(vlm, monkeypatch):
    assert vlm.top_k == 1000
    everything = vlm.generate(PROMPTS, seeds=[0, 1], top_k=0)
    monkeypatch.setattr(LlamaGenVLM, "top_k", 1)
    assert torch.equal(vlm.generate(PROMPTS, seeds=[0, 1]).ids, vlm.generate(PROMPTS, seeds=[7, 8], greedy=True).ids)
    assert torch.equal(vlm.generate(PROMPTS, seeds=[0, 1], top_k=0).ids, everything.ids)


def test_drawing_leaves_the_weights_untouched(vlm):
    before = fingerprint(vlm.model.state_dict())
    vlm.generate(PROMPTS, seeds=[0, 1], observe=SOFTMAX)
    assert fingerprint(vlm.model.state_dict()) == before
    assert not any(weight.requires_grad for weight in vlm.parameters())


def test_bfloat16_keeps_output_layer_and_vq_in_fp32(folder):
    vlm = LlamaGenVLM.from_folder(folder, size=TINY, captions=Table(), dtype=torch.bfloat16)
    drawn = vlm.generate(PROMPTS, seeds=[0, 1], observe=LOGITS)
    assert vlm.model.llama.dtype == torch.bfloat16
    assert drawn.observed["logits"].dtype == vlm.tokenizer.codebook.dtype == torch.float32


def test_official_vq_keys_load_strictly_and_compute_the_same():
    torch.manual_seed(2)
    official = ReferenceVQ(TINY).eval()
    ours: Any = build_vq(TINY)
    ours.load_state_dict(vq_tensors(official.state_dict()), strict=True)
    images, ids = torch.rand(2, 3, 8, 8) * 2 - 1, torch.randint(0, 64, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(
            ours.quant_conv(ours.encoder(images)), official.features(images), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(ours.decode(ids), official.decode(ids), atol=1e-5, rtol=1e-5)


# Captions


def test_captions_are_moved_to_the_right_edge_and_zero_elsewhere():
    features = torch.arange(1.0, 9.0).view(1, 4, 2)
    moved = left_padded(features, torch.tensor([[True, True, False, False]]))
    assert moved.visible.tolist() == [[False, False, True, True]]
    assert moved.features.tolist() == [[[0, 0], [0, 0], [1, 2], [3, 4]]]


def test_t5_captions_are_the_encoder_features_of_the_cleaned_prompt():
    words = tiny_tokenizer()
    torch.manual_seed(0)
    encoder = T5EncoderModel(
        T5Config(vocab_size=32, d_model=12, d_kv=4, d_ff=16, num_layers=1, num_heads=2, pad_token_id=2)
    )
    captions = T5Captions(encoder, words, length=7)
    features, visible = captions(["  A red   APPLE ", "dog"])
    assert visible.sum(1).tolist() == [3, 1]
    with torch.no_grad():
        alone = encoder(input_ids=words("a red apple", return_tensors="pt")["input_ids"]).last_hidden_state
    torch.testing.assert_close(features[:1, -3:], alone, atol=1e-5, rtol=1e-4)


@pytest.fixture
def t5() -> T5Captions:
    config = T5Config(vocab_size=32, d_model=12, d_kv=4, d_ff=16, num_layers=1, num_heads=2, pad_token_id=2)
    return T5Captions(T5EncoderModel(config), tiny_tokenizer(), length=7)


def test_a_caption_whose_end_is_cut_off_is_logged_once(t5, caplog):
    t5(["a red apple " * 3, "dog"])
    t5(["a red apple " * 3])
    assert [record.getMessage() for record in caplog.records] == [
        "1 of the prompts are longer than the 7 tokens that LlamaGen reads and lost their ends, the first: "
        "'a red apple a red apple a red apple '..."
    ]


@pytest.mark.parametrize("prompt", ["a 红 apple", "a <b>red</b> zeppelin"])
def test_a_caption_that_is_read_in_part_is_logged(t5, caplog, prompt):
    t5(["a red apple", prompt])
    assert [record.getMessage() for record in caplog.records] == [
        "1 of the prompts are read in part, LlamaGen dropping or not knowing some of their characters, the first: "
        f"{prompt!r}..."
    ]


@pytest.mark.parametrize("prompt", ["一个红苹果", "https://x.org/cat", "?!", "zeppelin"])
def test_a_caption_of_which_nothing_is_left_is_refused(t5, prompt):
    for _ in range(2):
        with pytest.raises(ValueError, match="nothing is left of the prompt"):
            t5.check(["a red apple", prompt])


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("A  Red Apple on a wooden Table ", "a red apple on a wooden table"),
        ("a cat at https://x.org/cat", "a cat at"),
        ("a <b>red</b> apple", "a red apple"),
        ("a cat 猫 on a mat", "a cat on a mat"),
        ("“Quoted” — it’s a dog", '"quoted" - it\'s a dog'),
        ("two-red_apples-on-a_table", "two red apples on a table"),
        ("a dog by @someone", "a dog by"),
        ("#12 free shipping! a 30x40 print", "! a print"),
        ("*** new *** a boat (blue)", "new a boat blue"),
        ("a%20cat+and+dog", "a cat and dog"),
        ("the ﬁsh", "the fish"),
    ],
)
def test_captions_are_cleaned_as_in_llamagen_s_training(caption, cleaned):
    assert clean_caption(caption) == cleaned
    assert clean_caption(cleaned) == cleaned


def test_cleaning_without_its_packages_says_what_to_install(monkeypatch):
    monkeypatch.setattr(
        "detokenizers.pretrained.vlm.t5_captions.find_spec", lambda name: None if name == "bs4" else object()
    )
    with pytest.raises(ValueError, match=r"without bs4; pip install 'detokenizers\[llamagen\]'"):
        clean_caption("a cat")


# Loading


def test_missing_damaged_and_foreign_files_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match="there are no weights at"):
        tensors_in(tmp_path / "nothing.pt")
    whole = (folder / "vq_ds16_t2i.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a readable weight file"):
        tensors_in(tmp_path / "cut.pt")
    torch.save({"weights": {"a": torch.zeros(1)}}, tmp_path / "foreign.pt")
    with pytest.raises(
        ValueError, match="holds no state dict of tensors, by itself or under model, module, state_dict"
    ):
        tensors_in(tmp_path / "foreign.pt")
    with pytest.raises(ValueError, match=r"'lm_head\.weight' does not belong"):
        gpt_tensors({"lm_head.weight": torch.zeros(1)}, heads=2)
    with pytest.raises(ValueError, match="no LlamaGen stage 'XXL'"):
        LlamaGenVLM.from_folder(folder, stage="XXL")


def test_a_folder_that_is_not_there_is_never_asked_of_the_hub(folder, tmp_path, monkeypatch):
    def asked(*arguments: object, **more: object) -> None:
        raise AssertionError("somebody asked the Hub")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("transformers.utils.hub.cached_files", asked)
    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    for load in (load_vlm, load_tokenizer):
        with pytest.raises(ValueError, match="there is no folder 'nope', as in llamagen-xl@nope"):
            load("llamagen-xl@nope")
    shutil.copytree(folder, tmp_path / "files")
    with pytest.raises(ValueError, match="there is no folder files/flan-t5-xl"):
        load_vlm("llamagen-xl@files")


class Trap:
    def __reduce__(self):
        return print, ("executed",)


def test_a_checkpoint_is_never_executed(tmp_path, capsys):
    torch.save({"model": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(ValueError, match="not a readable weight file"):
        tensors_in(tmp_path / "trap.pt")
    assert "executed" not in capsys.readouterr().out
    assert pickle.loads(pickle.dumps(Trap())) is None, "the trap itself works"


def test_tensors_missing_or_of_another_size_are_named(folder, tmp_path, reference):
    captions = Table()
    with pytest.raises(ValueError, match=r"does not fit a LlamaGen: missing llama\.layers\.2"):
        LlamaGenVLM.from_folder(folder, size=TINY.vary(layers=3), captions=captions)
    with pytest.raises(ValueError, match=r"caption\.uncond is \[7, 12\], not \[9, 12\]"):
        LlamaGenVLM.from_folder(folder, size=TINY.vary(caption_length=9), captions=captions)


def test_full_size_llamagen_has_the_official_parameters_and_key_set():
    size = STAGES["t2i_XL_stage1_256"]
    with torch.device("meta"):
        ours, official = LlamaGen(size), ReferenceGPT(size)
        vq, official_vq = build_vq(size), ReferenceVQ(size)
    count = sum(weight.numel() for weight in ours.parameters())
    assert count == sum(weight.numel() for weight in official.parameters())
    assert count / 1e6 == pytest.approx(778, abs=5)
    renamed = gpt_tensors(official.state_dict(), size.heads)
    assert {name: t.shape for name, t in renamed.items()} == {name: t.shape for name, t in ours.state_dict().items()}
    renamed = vq_tensors(official_vq.state_dict())
    assert {name: t.shape for name, t in renamed.items()} == {name: t.shape for name, t in vq.state_dict().items()}
    assert sum(weight.numel() for weight in vq.parameters()) / 1e6 == pytest.approx(71.9, abs=0.1)
    assert STAGES["t2i_XL_stage2_512"].grid == 32


def test_raster_positions_turn_by_row_then_column_and_the_prefix_not_at_all():
    angles = raster_angles(TINY, 7 + 16, torch.zeros(()))
    assert not angles.cos[:7].any()
    assert not angles.sin[:7].any()
    row, column = angles.sin[7 + 4], angles.sin[7 + 1]
    assert row[8:12].abs().sum() > 0
    assert not row[12:16].any()
    assert column[12:16].abs().sum() > 0
    torch.testing.assert_close(F.relu(angles.cos[7]), torch.ones(16))
