"""PyTorch: a module becomes a graph, a batch becomes an encoded gradient, a mean becomes a step."""
