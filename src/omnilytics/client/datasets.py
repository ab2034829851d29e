"""Data sets from files, as `omnilytics.datasets`."""

from omnilytics.learning.files import ImageFolder, csv_file, parquet_file
from omnilytics.learning.standard_files import cifar10_files, mnist_files

__all__ = ["ImageFolder", "cifar10_files", "csv_file", "mnist_files", "parquet_file"]
