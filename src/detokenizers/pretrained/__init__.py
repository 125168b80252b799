"""The one door to transformers and diffusers: frozen VLMs, their tokenizers, latent spaces and FLUX.

Import the module you need (`detokenizers.pretrained.vlm.janus`, ...); this package itself imports nothing heavy.
"""
