"""The accelerator benchmark: the ascent on fixed random weights, layers x batch sizes x dtypes, honestly timed.

    settings.py   what to measure: defaults and checks
    measure.py    READ FIRST: the measurement itself; yields a `Report` after every layer
    executable.py one compiled program: made, warmed up, called and timed
    dot.py        the matrix-product rate of the same device in the same run
    machine.py    hardware, versions, tuning variables, memory, precision in words
    records.py    the `Report`: raw values, typed and versioned
    figures.py    every figure, computed from the raw seconds; turns; where throughput saturates
    files.py      the report as a file
    compare.py    two reports side by side

Nothing here prints.
"""
