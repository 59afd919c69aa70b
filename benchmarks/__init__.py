"""Studies and benchmarks; what they measure is written under `results/`, never typed in."""
