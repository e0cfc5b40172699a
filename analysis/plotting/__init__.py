"""Drawing that all figures share: style, axes, labels."""
