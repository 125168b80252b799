"""Prompts to tokens to pictures by several decoders: galleries, contact sheets, benchmark layouts."""
