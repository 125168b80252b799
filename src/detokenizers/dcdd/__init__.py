"""DCDD: Distribution-Conditioned Diffusion Decoding (arXiv 2603.13389).

A vision-language model that draws samples one code per image patch, and its VQ decoder, which turns codes into pixels,
is the weakest part of it. Before sampling a code, the model computes a distribution over all codes. DCDD keeps a
summary of it (LCDM: the expected code vector and four uncertainty features) and trains a diffusion decoder to draw the
image from these summaries; the VLM stays frozen. Training needs images alone: the cosines between an encoder's features
and the codes stand in for the VLM's logits, once Logit Calibration (LC) has made them as certain as the VLM is.

Equations (docs/dcdd.md adds symbols and tests):
    1        Otsu's split of a sorted distribution       token_statistics.py: otsu_exact
    2-3      why a raw softmax of cosines is flat        calibration.py: Calibration.__call__ with its defaults
    4        the VLM's logits, after guidance            pretrained/vlm/token_loop.py: TokenLoop.sample
    5        probabilities                               lcdm.py: probabilities
    6-7      the expected code                           lcdm.py: expected_codes
    8        uncertainty                                 nn/uncertainty.py: uncertainty
    9        encoder features                            pretrained/vq.py: JanusVQ.features
    10, 13   proxy logits                                calibration.py: cosine
    11-12    what calibration matches                    token_statistics.py: normalized_entropy, pooled
    14-15    scale, temperature, smoothing               calibration.py: Calibration.__call__
    16       the calibration's loss and search           search.py: loss, joint_search, paper_search
    17       clean latents                               pretrained/spaces.py: VAE.encode
    18       noising                                     flow/path.py: interpolate
    19-20    the condition map                           condition.py: CondEncoder.forward
    21-25    velocity                                    pretrained/flux/transformer.py: FluxDecoder.forward
    26       the loss                                    objectives.py: DCDDObjective.forward

Parts of the paper: `model.DCDD` draws, `objectives.DCDDObjective` trains it, `calibrate.calibrate` is LC's search,
`recipes` are the rows of its tables.
"""
