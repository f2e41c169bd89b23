"""The compiled loop and its nouns: objectives, parameterizations, transforms, optimizers."""
