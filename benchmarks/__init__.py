"""Benchmarks: ours against the tightest raw prototype of the same durable work, measured in the same run."""
