"""The regression gate: two revisions of this project, built apart and compared in one session.

`bench compare BASE [HEAD]` asks of each kernel, product and number of columns whether HEAD is slower than BASE:
by instructions counted under callgrind, by what a matrix holds and a solve needs, and by paired CPU times.

    revisions   a git ref as a tree of its own, its libraries built by its own code
    sides       a process with the package of one revision, and how to talk to it; `worker` is what runs there
    counts      instructions of a product (`count.cc` under callgrind)
    rounds      the two sides timed in turn
    verdict     from numbers to slower, faster, same, inconclusive, wrong
    gate        all of it; `report` and `figure` write what was found

docs/regression.md says how it decides.
"""
