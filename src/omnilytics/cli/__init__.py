"""The command line: one file per noun; output and exit codes in `output.py`."""
