"""VUGEN (arXiv 2510.06529): a frozen vision-language model learns to sample in its own understanding space."""
