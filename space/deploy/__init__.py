"""From trained to deployed networks: frozen ratios, batch-norm folding, ONNX export."""
