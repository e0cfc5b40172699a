"""Exporting trained models: files for timm and ONNX, model cards, and their verification."""
