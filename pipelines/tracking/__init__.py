"""MLflow: runs that mirror training, and models that can be served. Nothing else imports mlflow, but served.py.

Training writes an event log and knows nothing of MLflow (see :mod:`gen.train.events`). What is here follows that log
and sends it on, so a server that is slow, away or gone for good can neither slow training down nor stop it: the log
is the spool, and :func:`sync` or the next start sends the rest.

Everything that is sent may be sent again. Metrics are recorded once by the server itself (equal key, step, timestamp
and value), pictures are looked up before they are sent twice, and a run is found again by a token that was written
down before it was created. So the order "send, then write down how far" loses nothing and doubles nothing.

    <run>/tracking.json    what the run is called, and per server: the MLflow run and how far it has been told
    <root>/mlflow          the embedded server, when MLFLOW_TRACKING_URI names none: mlflow.db and artifacts

The rooms, in the order the data goes through them; each knows only those above it:

    server        where MLflow is
    forms         facts in the form MLflow takes them
    provenance    what is known about a run before it starts
    record        tracking.json
    mirror        one run on one server
    courier       the thread that sends the runs of a process
    tracker       who calls the mirror: training, evaluation, ``gen runs sync``
    sweeps        the same for a sweep and its trials
    runs          what run directories tell of themselves, and what the server believes of them
    reaping       runs that the server believes are running, and whose process is gone
    shelf         registered models, their versions, aliases and tags
    seals         what every file of a version must be
    sealed        a version's files are fetched, and used only if they are that
    smoke         a version is tried
    pyfunc        a stored model in MLflow's form
    cards         what a version's card says
    registry      stored models become versions
"""
