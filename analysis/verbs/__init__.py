"""What `python -m analysis` can do besides a report: one verb a file, with HELP and main(args, stream) -> exit code."""
