"""How large an artefact from another party may be.

Every limit is checked on integers, before memory of that size is asked for. A client with a small
machine passes stricter limits than the defaults, which fit ResNet-sized networks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Upper bounds on what an artefact may hold or cost.

    Attributes:
        max_artefact_bytes: Length of the whole artefact.
        max_graph_bytes: Length of the JSON graph in it.
        max_nodes: Operations in the graph.
        max_tensors: Weight tensors.
        max_parameters: Elements of all weight tensors together.
        max_activation_elements: Elements of all intermediate values and the largest
            workspace together, for one sample.
        max_multiply_adds: Work of one forward pass, for one sample.
    """

    max_artefact_bytes: int = 1 << 29
    max_graph_bytes: int = 1 << 20
    max_nodes: int = 2_000
    max_tensors: int = 2_000
    max_parameters: int = 1 << 27
    max_activation_elements: int = 1 << 24
    max_multiply_adds: int = 1 << 34


DEFAULT_LIMITS = Limits()
