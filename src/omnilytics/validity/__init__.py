"""The norm statement: prover, share-side evaluation, words (protocol.md sections 3 and 6)."""
