"""Minutes on a GPU in one command: everything worth knowing, most valuable first, useful wherever it is cut off.

    __main__.py   the command: a visit, or `keep` its result
    settings.py   how much of everything: a visit, or a rehearsal on a CPU
    program.py    READ FIRST: the sections and their cells, in order, with budgets and limits
    schedule.py   whose turn it is and how long it may last; pure
    runner.py     one cell in a process of its own, killed at its limit
    record.py     visit.json, whole after every write
    resume.py     a second visit goes on where the first ended
    cell.py       the child process
    cells/        what is measured, one file a section
    hlo.py        the operand types of the products in a compiled program
    reference.py  what a CPU computed in float32, in reference.json
    verdicts.py   from raw values to what holds and what does not
    tables.py     the text for README.md
    keep.py       a finished visit becomes benchmarks/gpu/<time>-<commit>.json

A cell is a generator function that yields its whole result so far, a dictionary of JSON values.
"""
