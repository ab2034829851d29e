"""The Python API: buying gradients for a PyTorch module, selling those of a DataLoader.

`ModelOwner` and `DataOwner` are also `omnilytics.ModelOwner` and `omnilytics.DataOwner`.
"""
