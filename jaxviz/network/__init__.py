"""Any network: traced, cut to a layer and run with fast input gradients.

    jaxprs.py    a function as a flat list of equations       geometry.py   axes, receptive fields, multiply-adds
    graph.py     what depends on the image, what is fixed     naming.py     names and kinds of layers
    program.py   cut, prepared and replayed with `rules/`     head.py       the constant head; `Route`
    model.py     `Model`, which answers for its layers        layout.py     channels first without transposes

The order is that in which a network goes through them.
"""
