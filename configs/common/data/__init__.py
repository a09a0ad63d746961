"""Data loaders and evaluators, one data set per file."""
