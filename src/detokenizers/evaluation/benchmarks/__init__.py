"""GenEval, DPG-Bench, MJHQ-30K and the embedded world: prompts, judges, scores under their official rules."""
