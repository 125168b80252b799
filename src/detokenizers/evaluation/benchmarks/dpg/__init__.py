"""DPG-Bench (Hu et al., 2024) without modelscope: does a picture answer the questions its long prompt implies?

1,065 dense prompts come with some 13 yes/no questions each, in a tree: "is the dog brown?" only counts when there is a
dog. Each prompt is drawn four times into a 2x2 grid. The official judge is mPLUG-large; ours is a vision-language model
of transformers (`pretrained/networks/vqa.py`), so scores carry the tag `dpg-<model>` and do not compare with published ones.

official csv -questions-> Item ; grid -quarters-> four pictures ; yes/no judge -> answers -score-> table
"""
