"""A backend for Django's ``@task`` on the same queues and workers."""
