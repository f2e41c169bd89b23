"""Doors: other frameworks' networks as what `Model.from_callable` takes, a function of weights and images.

A door knows nothing of `network/`, and imports its framework inside functions only.

    keras_models     Keras's applications by name, and models in files
    keras_network    a Keras model: its weights, and itself behind what it does to pixels (keras_preprocess)
    keras_walk       its layers one after the other, nested models opened
    torch_module     a PyTorch module: its weights, what it says of its images, one translation for each image size
    torch_graph      what `torch.export` gives, run as JAX, every module's output named
    aten             PyTorch's operations in JAX: the table
    scaled_pixels    the `preprocess` of both, where it is a scale and an offset of each color
"""
