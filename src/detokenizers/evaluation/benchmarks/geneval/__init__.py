"""GenEval (Ghosh et al., 2023) without mmdet: does a picture hold the objects, counts, colours and places asked for?

553 prompts in six tasks are made of "a photo of ..." and what must be found in the picture. A detector says what is
there, a zero-shot classifier says in which colour, and plain geometry does the rest. This package is the geometry: pure
functions over detections, whoever made them. The official judge is mmdet's Mask2Former; ours is Meta's
(`pretrained/networks/mask2former.py`), so scores carry the tag `geneval-hf`.

official jsonl -prompts-> Ask ; detections -objects.kept-> by class, surest first -task.judge-> Verdict -score-> table
"""
