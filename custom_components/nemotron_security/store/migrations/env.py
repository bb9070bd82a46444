"""What Alembic runs to run the steps: on the connection and for the tables that it was given, without an .ini."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    render_as_batch=True,
)
context.run_migrations()
