"""Model "encryption" on a traced graph of listed operations, and its exact inverse.

`graph`, `operations`, `graph_json`, `artefact`: what travels. `interpreter`, `losses`: how a data
owner computes with it. `gauge`, `secret`: what only the model owner knows. docs/perturbation.md
says what this hides and what it does not.
"""
