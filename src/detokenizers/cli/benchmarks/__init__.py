"""Benchmarks on the command line: `layouts.py` draws their prompts into official folders, `scoring.py` scores those.

A benchmark is a file here and a folder or file in `evaluation/`: here is where pictures and judges come from, there is
what a score means.

official file -layouts-> prompts with ids that are paths -detok generate-> folders -scoring, by a judge-> results
"""
