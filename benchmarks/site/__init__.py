"""The Django site that is measured: this package as gunicorn serves it."""
