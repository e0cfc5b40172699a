"""Architectures as plain data: ratios, parts, stages, presets."""
