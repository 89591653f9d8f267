"""The pages of the site in docs/: what is known about every model, without a word or a number typed twice.

chapter.py   a chapter's docstring as Markdown
anatomy.py   what a model's class says of itself: hyper-parameters, spaces, capabilities
record.py    what was measured on disk -> docs/measured/, small and committed
studies.py   the same for studies
readme.py    the table and the picture of the README
pages.py     all of it -> docs/models/, docs/studies/, made anew at every build

    python -m pipelines.documentation --record      # after `dvc repro`: numbers and pictures of what was trained
    make docs                                       # the site
"""
