"""Pretraining without labels (masked words, patches and frames), then alignment of two modalities by pairs."""
