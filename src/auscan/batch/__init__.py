"""Process many inputs: plan, run, resume, and merge the results.

Read in this order:

    jobs.py             options of a run; one job, its job function, its manifest record
    plan.py             jobs of a run: new inputs, and inputs whose stored result is stale
    output_folder.py    staging folder of a run; results are moved into place by one rename
    worker.py           worker process: parent and child side
    run.py              loop over the jobs; in-process and pool runners
    ray_runner.py       runner on a Ray cluster
    extract.py          job function, jobs and runner of `auscan extract`
    dataset.py          merging of results into one data set; SQL queries

A runner takes jobs and yields (job, record) when each job ends. All runners write the same files and the same
manifest.
"""
