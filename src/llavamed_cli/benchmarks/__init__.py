"""Readers of benchmarks as their authors publish them: one a file, for training (build-data) and for scoring (eval)."""
