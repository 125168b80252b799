"""The embedded captioned set: scenes drawn by seed, with captions and exact ground truth."""
