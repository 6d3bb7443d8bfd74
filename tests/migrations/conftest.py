"""Databases as version 1.0 left them, and the same after our migrations.

They are made from 1.0's own SQL (``sql/``) on real servers. A test gets one as Django's
``default``; what it changes is rolled back.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.db.utils import ConnectionHandler

from tests import services
from tests.services import Database

SQL = Path(__file__).parent / "sql"

KINDS = ("sqlite", "postgresql", "mariadb", "mariadb-2016")
"""``mariadb-2016``: the tables have that year's row format, whose indexes are short, and
another collation than the connection and newer tables."""

MakeDatabase = Callable[[], AbstractContextManager[BaseDatabaseWrapper]]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Database]:
    with services.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Database]:
    with services.mariadb() as server:
        yield server


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which database."""
    return str(request.param)


@pytest.fixture(scope="session")
def old_database(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: Any,
) -> MakeDatabase:
    """``with old_database():`` a fresh one of version 1.0 is ``default``."""
    numbers = itertools.count()

    def new_sqlite() -> Database:
        path = tmp_path_factory.mktemp("old") / "database"
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}

    def new_on(server: Database) -> Database:
        name = f"{kind.replace('-', '_')}_{next(numbers)}"
        with as_default(server) as connection:
            _execute(connection, f"CREATE DATABASE {name}")
        return server | {"NAME": name}

    @contextlib.contextmanager
    def make() -> Iterator[BaseDatabaseWrapper]:
        with django_db_blocker.unblock():
            if kind == "sqlite":
                database = new_sqlite()
            else:
                program = kind.partition("-")[0].removesuffix("ql")
                database = new_on(request.getfixturevalue(program))
            age = _in_2016 if kind == "mariadb-2016" else contextlib.nullcontext
            with as_default(database) as connection:
                with age(connection):
                    _fill(connection)
                yield connection

    return make


@pytest.fixture(scope="session")
def upgraded_database(old_database: MakeDatabase) -> Database:
    """A database of 1.0 after ``manage.py migrate``; tests leave it as they found it."""
    with old_database() as connection:
        call_command("migrate", verbosity=0)
        return dict(connection.settings_dict)


@pytest.fixture
def upgraded(
    upgraded_database: Database, django_db_blocker: Any
) -> Iterator[BaseDatabaseWrapper]:
    """The upgraded database is ``default``; the test's changes are rolled back."""
    with (
        django_db_blocker.unblock(),
        as_default(upgraded_database) as connection,
        transaction.atomic(),
    ):
        yield connection
        transaction.set_rollback(True)


@contextlib.contextmanager
def as_default(database: Database) -> Iterator[BaseDatabaseWrapper]:
    """Let ``default`` be this database, in this thread."""
    theirs = connections["default"]
    ours = ConnectionHandler({"default": database})["default"]
    connections["default"] = ours
    ContentType.objects.clear_cache()
    try:
        yield ours
    finally:
        connections["default"] = theirs
        ContentType.objects.clear_cache()
        ours.close()


@contextlib.contextmanager
def _in_2016(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Tables made inside are of that year; later ones are of today."""
    _execute(
        connection,
        "SET GLOBAL innodb_default_row_format = compact;\n"
        "ALTER DATABASE COLLATE utf8mb4_unicode_ci;\n",
    )
    try:
        yield
    finally:
        _execute(
            connection,
            "ALTER DATABASE COLLATE utf8mb4_general_ci;\n"
            "SET GLOBAL innodb_default_row_format = dynamic;\n",
        )


def _fill(connection: BaseDatabaseWrapper) -> None:
    """What was there when 1.0 had been migrated and in use for a while."""
    call_command("migrate", "auth", verbosity=0)
    for name in (connection.vendor, "rows"):
        _execute(connection, (SQL / f"{name}.sql").read_text())
    # The rows came with their keys, which PostgreSQL's sequences did not notice.
    ours = apps.get_app_config("redis_pubsub")
    names = ("channel", "subscription", "receivedpublication")
    with_keys: list[type[Model]] = [ContentType, *map(ours.get_model, names)]
    for statement in connection.ops.sequence_reset_sql(no_style(), with_keys):
        _execute(connection, statement)


def _execute(connection: BaseDatabaseWrapper, script: str) -> None:
    with connection.cursor() as cursor:
        for statement in script.split(";\n"):
            if statement.strip():
                cursor.execute(statement)
