"""The market contract and the chains it lives on; the only package that imports py-evm.

`reader` needs no key and is all an auditor uses; `sender` and `writer` hold keys and spend money.
"""
