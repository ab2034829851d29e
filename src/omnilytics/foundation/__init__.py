"""What every layer may use: errors, identifiers, randomness, clock."""
