"""Vision-language models as the papers use them."""
