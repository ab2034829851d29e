"""The parties of a market; they meet only through HTTP messages and the chain."""
