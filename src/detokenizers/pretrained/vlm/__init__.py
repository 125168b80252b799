"""Frozen vision-language models: the token loop, its KV cache, Janus, LlamaGen, prompt formats."""
