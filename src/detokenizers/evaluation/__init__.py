"""Numbers people can believe: what a decoder's pictures lose, gain and invent, with the uncertainty of every number.

Each file is one measure or one report. Nothing here reads files or knows a paper: images come in as tensors, decoders
as callables, and what goes out is a JSON-ready dictionary that says how it was made (N, seed, device, versions,
extractor).

images, decoders -reconstruction | generation-> result (dict) -tables-> Markdown; the same images -sheets-> a picture.
"""
