"""Measuring latency, throughput, memory and FLOPs of networks."""
