"""Process many inputs in a way that loses none of them.

Read in this order:

    options.py          options of a run, as plain values; metadata of its manifest records
    jobs.py             one job, its function, its manifest record
    plan.py             jobs of a run: new inputs, and inputs whose stored result is stale
    detect_worker.py    the job function of `auscan detect`
    fingerprint.py      size, time and hash of an input
    output_folder.py    staging folder of a run; results are moved into place by one rename
    worker.py           worker process, seen from both ends
    run.py              loop over the jobs; in-process and pool runners
    ray_runner.py       runner on a Ray cluster
    extract.py          job function, jobs and runner of `auscan extract`
    dataset.py          merge results into one data set; query it in SQL

A runner takes jobs and yields (job, record) as they end. All runners write the same files and the same
manifest.
"""
