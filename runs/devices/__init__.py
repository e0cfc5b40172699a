"""Devices: their locks, precision, CUDA graphs and other processes on them."""
