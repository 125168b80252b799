"""MaDiT (seed 004): a masked autoregressive transformer that turns discrete visual tokens back into images.

A frozen VAE's latents are quantised by a small adapter and a learned codebook. A masked encoder-decoder reads the
tokens, the caption as rows of a language model's word embeddings, and the patches drawn so far; a flow head draws the
next patches, those of low KL divergence first. A language model whose vocabulary holds the codes adds text to image.

| paper | what | here |
|---|---|---|
| section 2.1, A.4 | latents, adapter, codes | `tokenizer.MaDiTTokenizer`, `nn.codebook` |
| section 2.1 | words of a language model | `vocabulary.Vocabulary` |
| Eq. 1 | masked encoder-decoder, context c | `masked.MaskedTransformer` |
| Eqs. 2-3 | path, velocity, its loss | `flow.path`, `heads.Head`, `objectives.StageTwo` |
| section 2.3 | KL of a patch, of a codeword | `patches.patch_kl`, `codewords.Codewords` |
| Eqs. 5-7, Alg. 1 | order, rounds, drawing | `orders.Order`, `orders.reveal`, `model.MaDiT` |
| Eq. 8 | guidance with a dummy | `heads.Flow`, `masked.MaskedTransformer` |
| A.5 | visual words | `pretrained.vlm.visual_words`, `language.LanguageObjective` |
| beyond | distributions as input | `distributions`, `conditions` |

docs/madit.md has the same with tests, the paper's contradictions, and what was chosen.
"""
