"""Trained models for other runtimes and other people. A new format is a file here and a line in `formats.py`."""
