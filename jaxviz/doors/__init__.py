"""Doors: other frameworks' networks as what `Model.from_callable` takes, a function of weights and images.

A door knows nothing of `network/`, and imports its framework inside functions only.

    torch_module    a PyTorch module: its weights, what it says of its images, one translation for each image size
    torch_graph     what `torch.export` gives, run as JAX, every module's output named
    aten            PyTorch's operations in JAX: the table
"""
