"""The networks behind metrics and losses: Inception, LPIPS, CLIP, DINOv2, Mask2Former, Qwen2.5-VL."""
