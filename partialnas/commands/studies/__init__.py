"""Run studies, watch them and keep their folders."""
