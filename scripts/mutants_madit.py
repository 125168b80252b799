"""The wrong implementations that MaDiT's spec names (../shared/specs/madit.md §6, in brackets), one at a time: does a test
fail? Nothing on disk changes; each runs in a fork, as in scripts/mutate.py.

The tests that docs/madit.md names for a property must notice its wrong implementations; where these do not, others of the
module are asked.

    python scripts/mutants_madit.py [--only 5 9]

property, file, text -> other text -the property's tests, then its module's-> killed | elsewhere | survived, a line each
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from mutate import Changed, import_all_but_ours, module_name, run

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "detokenizers"


class Wrong(NamedTuple):
    """One wrong implementation, and the test files of what it changes."""

    property: int
    what: str
    file: str
    before: str
    after: str
    files: tuple[str, ...]


def of(file: str, *tests: str, **rows: tuple[int, str, str]) -> list[Wrong]:
    """Wrong versions of one file: property, what stands there, what would stand there."""
    return [
        Wrong(row[0], name.replace("_", " "), file, row[1], row[2], tuple(f"tests/{test}.py" for test in tests))
        for name, row in rows.items()
    ]


ASCENDING = "by_tie[score[:, by_tie].argsort(dim=-1, stable=True)]"
WRONG = [
    *of(
        "madit/orders.py", "madit/test_orders",
        sine_for_cosine=(1, "math.cos(math.pi / 2 * number / rounds)", "math.sin(math.pi / 2 * number / rounds)"),
        empty_rounds=(1, "left = max(rounds - number, min(masked - 1, left))", "left = min(masked, left)"),
        descending=(4, "argsort(dim=-1, stable=True)]", "argsort(dim=-1, stable=True, descending=True)]"),
        ties_ignored=(4, ASCENDING, "score.argsort(dim=-1, stable=True)"),
        one_order_for_the_batch=(4, ASCENDING, f"{ASCENDING}[:1].expand(len(score), -1)"),
        ties_by_the_raster_index=(4, "((columns >> bit & 1) << (2 * (bits - bit) - 2))", "0 * columns"),
        weight_of_another_shape=(9, "1 + (self.weight - 1) * revealed / patches", "self.weight * revealed / patches"),
        floor_for_ceiling=(13, "math.ceil(ratio * patches)", "math.floor(ratio * patches)"),
    ),
    *of(
        "madit/patches.py", "madit/test_patches",
        half_missing=(2, "return 0.5 * (mean.square()", "return (mean.square()"),
        plus_log_variance=(2, "- 1 - log_variance)", "- 1 + log_variance)"),
        deviation_for_variance=(2, "(2 * std.log())", "(std.log())"),
        mean_for_sum=(2, "divisor_override=1", "divisor_override=None"),
        normalised_moments=(17, "seen.mean.float() / scale + shift", "seen.mean.float()"),
        no_posterior_accepted=(17, "if not bool((std > 0).any()):", "if False:"),
    ),
    *of(
        "madit/codewords.py", "madit/test_tokenizer",
        absent_codes_decay=(3, "torch.where(present[:, None], moved, self.kl)", "moved"),
        sum_for_mean=(3, " / number.clamp_min(1)[:, None]", ""),
        alpha_swapped=(3, "(1 - alpha) * self.kl + alpha * mean", "alpha * self.kl + (1 - alpha) * mean"),
        no_first_sight=(3, "torch.where(self.seen[:, None], (1 - alpha) * self.kl + alpha * mean, mean)",
                        "(1 - alpha) * self.kl + alpha * mean"),
        zero_for_unseen=(3, "torch.where(seen, table, table[self.seen].mean(0))", "table"),
        restart_keeps_its_entry=(3, "self.seen[codes] = False", "pass"),
        foreign_table_accepted=(17, "if mine != fingerprint:", "if False:"),
    ),
    *of(
        "madit/model.py", "madit/test_model",
        noise_by_order=(5, "noise.gather(1, where)",
                        "noise[:, visible.shape[1] : visible.shape[1] + chosen.shape[1]]"),
        no_feedback=(5, "self._contexts(features, patches, visible", "self._contexts(features, 0 * patches, visible"),
        wrong_slots=(5, "patches.scatter(1, where, drawn", "patches.scatter(1, where.flip(1), drawn"),
        captions_of_the_neighbour=(6, "words.repeated(2)", "type(words)(*(x.repeat(2, 1, 1)[: 2 * len(x)].roll(1, 0) "
                                   "if x.ndim == 3 else x.repeat(2, 1) for x in words))"),
        sides_exchanged=(9, ">= len(features)", "< len(features)"),
        share_before_the_round=(9, "sampling.guidance(visible.shape[1] + chosen.shape[1],",
                                "sampling.guidance(visible.shape[1],"),
    ),
    *of(
        "madit/masked.py", "madit/test_masked",
        positions_after_the_gather=(7, "self.patch_positions.to(x)[visible]",
                                    "self.patch_positions.to(x)[: visible.shape[1]]"),
        slots_misplaced=(7, "slots.scatter(1, visible[..., None]", "slots.scatter(1, visible.flip(1)[..., None]"),
        padding_is_read=(8, "keep.append(caption.keep)", "keep.append(torch.ones_like(caption.keep))"),
        hidden_patches_are_read=(8, "rows_at(self.patch_in(patches), visible)",
                                 "rows_at(self.patch_in(patches), visible) + self.patch_in(patches).mean(1, True)"),
        dummy_side_reads_tokens=(8, "torch.where(dropped[:, None, None], self.dummy.to(x.dtype), x)", "x"),
        number_of_words_leaks=(8, "words.keep if dropped is None else words.keep & ~dropped[:, None]", "words.keep"),
        token_of_another_patch=(7, "of_tokens[:, self.cell]", "of_tokens[:, self.cell.flip(0)]"),
    ),
    *of(
        "flow/guidance.py", "madit/test_heads",
        swapped=(9, "u + scale * (conditional(noisy, t) - u)",
                 "conditional(noisy, t) + scale * (u - conditional(noisy, t))"),
        from_the_conditional_side=(9, "u + scale * (conditional(noisy, t) - u)",
                                   "conditional(noisy, t) + scale * (conditional(noisy, t) - u)"),
    ),
    *of(
        "nn/codebook.py", "nn/test_codebook",
        farthest_code=(10, "(chunk @ rows.T).argmax(-1) for chunk in flat", "(chunk @ rows.T).argmin(-1) for chunk in flat"),
        rows_not_normalised=(10, "self.book.copy_(F.normalize(self.total, dim=-1))", "self.book.copy_(self.total)"),
        no_straight_through=(10, "Quantized(z + (codes - z).detach(), ids", "Quantized(codes, ids"),
        vectors_cut_off=(10, "Quantized(z + (codes - z).detach(), ids", "Quantized(codes.detach(), ids"),
        commitment_swapped=(10, "_distance(codes, z.detach()) + self.commitment * _distance(z, codes.detach())",
                            "self.commitment * _distance(codes, z.detach()) + _distance(z, codes.detach())"),
        no_restarts=(10, "& (self.age > rules.age)", "& False"),
    ),
    *of(
        "flow/path.py", "madit/test_heads",
        ends_exchanged=(11, "return (1 - t) * clean + t * noise", "return t * clean + (1 - t) * noise"),
        the_interpolant_as_velocity=(11, "return noise - clean", "return noise + clean"),
        sign=(11, "return noise - clean", "return clean - noise"),
    ),
    *of(
        "flow/solvers.py", "madit/test_heads",
        time_at_the_end_of_the_step=(11, "(after - now) * _at(velocity, noisy, now)",
                                     "(after - now) * _at(velocity, noisy, after)"),
    ),
    *of(
        "madit/heads.py", "madit/test_heads", "madit/test_model",
        residual_not_divided=(12, "(noisy - coarse - o) / t.clamp_min(SOONEST)", "(noisy - coarse - o)"),
        residual_added=(12, "(noisy - coarse - o) / t.", "(noisy - coarse + o) / t."),
        residual_of_the_patch=(12, "return clean - coarse", "return clean"),
        full_velocity_reversed=(12, "return noise - clean", "return clean - noise"),
        temperature_ignored=(11, "self.temperature * noise", "noise"),
    ),
    *of(
        "madit/objectives.py", "madit/test_objectives",
        coarse_learns_through_the_flow=(13, "head, coarse = self.model.head, coarse.detach()", "head = self.model.head"),
        loss_of_visible_patches=(13, "Hidden(order[:, count:], order", "Hidden(order[:, :count], order"),
        one_permutation_for_all=(13, "    return Hidden(",
                                 "    order = order[:1].expand(len(order), -1)\n    return Hidden("),
        codes_learn_in_stage_two=(17, "model.codes.requires_grad_(False)", "model.codes.requires_grad_(True)"),
        rounding_from_the_start=(18, "codes, own = vectors, 0 * own", "pass"),
        flow_from_the_clean_end=(11, "interpolate(clean.flatten(0, 1), noise.flatten(0, 1)",
                                 "interpolate(noise.flatten(0, 1), clean.flatten(0, 1)"),
        tokens_in_half_precision=(17, "enabled=False)", "enabled=True)"),
        frozen_codes_move=(17, "schedule.frozen is None or step < schedule.frozen", "True"),
    ),
    *of(
        "pretrained/vlm/visual_vocabulary.py", "pretrained/vlm/test_visual_words",
        padding_rows_counted=(14, "table[: known or old]", "table[:old]"),
        factors_not_transposed=(14, "values.clamp_min(0).sqrt()) @ vectors.T", "values.clamp_min(0).sqrt()) @ vectors"),
        spread_too_small=(14, "mean + scale * (normal", "mean + 1e-4 * scale * (normal"),
        both_matrices_alike=(14, "seed=seed + number", "seed=seed"),
        first_row_by_the_tokenizer=(14, "VisualVocabulary(first=old,", "VisualVocabulary(first=known or old,"),
    ),
    *of(
        "pretrained/vlm/visual_words.py", "pretrained/vlm/test_visual_words",
        tokens_embedded_as_words=(15, "(ids + self.vocabulary.first)", "(ids)"),
        unused_codes_drawn=(15, "= NEVER", "= 0.0"),
        guided_away_from_the_prompt_itself=(15, "[self.vocabulary.spelt(self.words, \"\")] * len(prompts)", "list(rows)"),
        padding_seen=(15, "columns >= starts[:, None]", "columns >= 0 * starts[:, None]"),
    ),
    *of(
        "madit/distributions.py", "madit/test_distributions",
        committed_token_forgotten=(16, "q @ codebook - codebook[sampled]", "q @ codebook"),
        doubt_of_the_decided=(16, "uncertainty(q) - q.new_tensor(CERTAIN)", "uncertainty(q)"),
        mean_renormalised=(16, "lean = q @ codebook -", "lean = torch.nn.functional.normalize(q @ codebook, dim=-1) -"),
        new_columns_not_zero=(16, "torch.nn.functional.pad(layer, (0, columns - layer.shape[1]))",
                              "torch.nn.functional.pad(layer, (0, columns - layer.shape[1]), value=0.1)"),
    ),
]  # fmt: skip


def held() -> dict[int, list[str]]:
    """The tests of each property, as the table in docs/madit.md has them."""
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", (ROOT / "docs" / "madit.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {int(number): re.sub(r"`([^`:]+):(\w+)`", r"`\1::\2`", row).split("`")[1::2] for number, row in rows}


def changed(wrong: Wrong) -> Changed:
    """What imports the wrong module.

    Raises:
        ValueError: the code has changed since the list was written.
    """
    path = SOURCE / wrong.file
    text = path.read_text(encoding="utf-8")
    if text.count(wrong.before) != 1:
        raise ValueError(f"{wrong.file} has not one {wrong.before!r} any more; change the list")
    return Changed(module_name(path), str(path), ast.parse(text.replace(wrong.before, wrong.after)))


def main() -> int:
    """Try all, or those of some properties."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", type=int, nargs="*", help="numbers of properties")
    given = parser.parse_args()
    tests = held()
    tried = [(one, changed(one)) for one in WRONG if not given.only or one.property in given.only]
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as scratch:
        names, every = Path(scratch) / "imported", sorted({test for one, _ in tried for test in tests[one.property]})
        if run(None, every, 3600, names) != "survived":
            print("the tests fail as things are; run them with pytest first")
            return 2
        import_all_but_ours(names.read_text().split(), "detokenizers", every)
    counts = dict.fromkeys(("killed", "elsewhere", "survived"), 0)
    for one, hook in tried:
        result = "survived" if run(hook, tests[one.property], 900) == "survived" else "killed"
        if result == "survived" and run(hook, list(one.files), 1800) != "survived":
            result = "elsewhere"
        counts[result] += 1
        print(f"{one.property:2} {result:9} {one.file}: {one.what}", flush=True)
    print(", ".join(f"{number} {result}" for result, number in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
