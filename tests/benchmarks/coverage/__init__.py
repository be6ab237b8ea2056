"""How often every interval holds the truth, and how often equal things are called better.

    python -m tests.benchmarks.coverage             all tables, about four minutes
    python -m tests.benchmarks.coverage --quick     fewer tries, for a look
    python -m tests.benchmarks.coverage means champion
    python -m tests.benchmarks.coverage --write     also keeps what pages quote
    python -m tests.benchmarks.coverage others --python ENV/bin/python    some ten minutes

Data are drawn with a known truth, and the product's own functions are called on them: those that a
page, a table or an alert shows. A table ends with what it has to fulfil; the exit code is 1 where
that is missed.
"""
