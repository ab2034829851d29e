"""OmniLytics: a data market for machine learning.

Model owners buy gradients that data owners compute on data they keep; n servers check them on
secret shares; an Ethereum contract holds the money. See README.md and docs/.
"""

__version__ = "0.1.0"
