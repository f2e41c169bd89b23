"""Networks of other frameworks as functions of JAX arrays: what `Model.from_callable` takes.

A framework is imported when its first network is opened.
"""
