"""``gen serve``: a registered or local model behind HTTP, with MLflow's scoring protocol.

One thread owns the model. Requests are cut into pieces of work, which take turns, so that one image never waits for ten
thousand; pieces of requests that wait at the same time are worked on together where that changes no bit of an answer
(see :mod:`gen.serve`). A request keeps the model that accepted it; a new champion serves those that come after.

    sources     where a model comes from, and whether there is a newer one
    protocol    MLflow's request bodies
    engine      the thread that works
    follow      the thread that looks for a newer model
    app         HTTP
    page        what a browser shows
    server      all of it, as a process: signals, draining, exit code
    commands    ``gen serve``
"""
