"""Many inputs, none lost: what is to be done, by whom, and what became of it.

Read in this order:

    request.py   what to make of every input, and with what
    job.py       one input that is to be done
    plan.py      which inputs are still to be done, and why
    detect.py    one input: its files into a temporary folder, its line of the manifest
    attempt.py   its line where it fails
    entries.py   its line of the manifest, as far as it does not depend on the work
    place.py     a finished folder is put in its place, and what killed runs left is removed
    worker.py    a process that does inputs one after the other, and may die of one
    run.py       the loop around all of them
    on_ray.py    jobs on the machines of a Ray cluster
    extract.py   features of a data set instead of results
    merge.py     many results as one data set;  query.py asks it

A runner takes jobs and gives (job, entry) as they end; here, in worker processes or on a cluster, the files
and the manifest are the same.
"""
