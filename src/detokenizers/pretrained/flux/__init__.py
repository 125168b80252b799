"""FLUX's transformer as a velocity net: its inputs, its condition layer, what of it learns."""
