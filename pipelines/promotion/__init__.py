"""``gen promote``, ``gen rollback``, ``gen history``: move a model through its aliases, safely, with a way back.

    candidate     the newest version, set by stage `register`
    challenger    passed the gate, and waits
    champion      passed the gate, and is what is served
    previous      the champion before, for `gen rollback`

The rooms, in the order of their arrows; each knows only those above it:

    policy      what params.yaml asks of a version
    verdicts    what a gate found
    gate        asks a version for all of it
    audit       the log: entries, chained by hashes
    journal     its two copies, in the registry and in the project, and how they stay one
    standing    what a log amounts to: aliases, approved versions
    lock        one process at a time
    desk        where it works: finish what was left, record, move, record
    moves       nominate, promote, roll back
    history     the log for people, and whether everything bears it out
    commands    on the command line

The chain of hashes shows every change but one: whoever can write the registry and the project can write both copies
anew. The file's history in git is what stands against that.
"""
