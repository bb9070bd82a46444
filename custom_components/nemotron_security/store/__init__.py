"""What lasts: incidents with their tracks, detections, assessments and pictures, in SQLite or any SQLAlchemy database.

    store.py       the asynchronous face; every call is one transaction on a thread of its own
    queries.py     what is asked of the database, one function a question
    judgements.py  likewise of the queue of what waits for an analyzer
    evidence.py    likewise of all that one is judged by
    rows.py        domain objects of rows, and the other way round
    tables.py      the schema
    engine.py      how the database is opened
    migrations/    how an older schema becomes the present one
    pictures.py    the files that rows own
    errors.py      what can be wrong with a database, in one place

Imports nothing of Home Assistant.
"""

from .errors import StoreError, StoreProblem
from .store import Store

__all__ = ["Store", "StoreError", "StoreProblem"]
