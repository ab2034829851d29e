"""Data sets from files, as `omnilytics.datasets`."""

from omnilytics.learning.files import ImageFolder, csv_file, parquet_file

__all__ = ["ImageFolder", "csv_file", "parquet_file"]
