"""System checks: each mistake is one message that says what to do; the rest is silent."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from django.conf import settings as site_settings
from django.core.checks import CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import models
from django.test.utils import isolate_apps

from redis_pubsub import conf
from redis_pubsub.checks import shape
from redis_pubsub.checks.models import looks_secret
from redis_pubsub.models import PublishableModel
from redis_pubsub.options import ChannelOptions, Limits
from tests.shop.models import Parcel

ROOT = Path(__file__).resolve().parents[1]


something_not_callable = 7
LONG = "a key of thirty-two bytes at least"


@pytest.fixture
def told(settings, monkeypatch):
    """``told(setting)``: what the checks say of this ``REDIS_PUBSUB``."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)

    def run(setting, *, deploy=False) -> list[CheckMessage]:
        settings.REDIS_PUBSUB = setting
        found = run_checks(tags=["redis_pubsub"], include_deployment_checks=deploy)
        for message in found:
            assert message.hint, message
        return found

    return run


def ids(found):
    return [message.id.removeprefix("redis_pubsub.") for message in found]


WRONG = [
    # The setting itself, its keys, its sections.
    (["url"], "E002", "REDIS_PUBSUB must be a dict, not list", "Write REDIS_PUBSUB"),
    (None, "E002", "REDIS_PUBSUB must be a dict, not NoneType", "or leave it out"),
    ({"prefx": "a"}, "E001", '["prefx"] is unknown', 'Did you mean "prefix"?'),
    ({"URL": "memory://"}, "E001", '["URL"]', 'Did you mean "url"?'),
    ({7: 1}, "E001", "REDIS_PUBSUB[7]", "Known here: address, allowed_origins"),
    ({"keep_days": 5}, "E001", '"keep_days"', 'into REDIS_PUBSUB["receipts"]'),
    ({"receipts": 30}, "E002", '["receipts"] must be a dict', '["receipts"] = {'),
    ({"receipts": {"keep_day": 1}}, "E001", '["keep_day"]', 'Did you mean "keep_days"?'),
    ({"receipts": {"keep_days": "30"}}, "E003", "a whole number, not str", "int("),
    ({"receipts": {"keep_days": -1}}, "E004", '["keep_days"] must be at least 0', "larger"),
    ({"history_size": 5}, "E001", '"history_size"', '["channels"]["<pattern>"]'),
    ({"message_bytes": 5}, "E001", '"message_bytes"', 'into REDIS_PUBSUB["limits"]'),
    (
        {"limits": {"mesage_bytes": 1}},
        "E001",
        '["limits"]["mesage_bytes"]',
        'Did you mean "message_bytes"?',
    ),
    (
        {"channels": {"news:*": {"history": 1}}},
        "E001",
        '["channels"]["news:*"]["history"]',
        'Did you mean "history_',
    ),
    ({"live": {"anonymus": True}}, "E001", '["live"]', 'Did you mean "anonymous"?'),
    ({"health": {"metrix": ""}}, "E001", '["health"]', 'Did you mean "metrics"?'),
    ({"metrics_token": "x"}, "E001", '"metrics_token"', 'into REDIS_PUBSUB["health"]'),
    ({"health": "/x"}, "E002", '["health"] must be a dict', "Write"),
    ({"health": {"readyz": None}}, "E003", '["health"]["readyz"] must be a string', ""),
    ({"health": {"readyz": "ready"}}, "E004", "which is no path", '"/healthz"'),
    ({"health": {"readyz": "/{x}"}}, "E004", "which is no path", '"/healthz"'),
    ({"health": {"readyz": "/healthz"}}, "E004", "one path twice", "of its own"),
    ({"limits": {"probe_s": 0}}, "E004", '["probe_s"] must be more than 0', ""),
    ({"channels": []}, "E002", '["channels"] must be a dict', "Write"),
    ({"limits": 5}, "E002", '["limits"] must be a dict', "Write"),
    ({"live": True}, "E002", '["live"] must be a dict', "Write"),
    ({"channels": {"a": 1}}, "E002", '["channels"]["a"] must be a dict', "Write"),
    ({"channels": {7: {}}}, "E003", "7 is not a channel's name", "news:*"),
    # Kinds.
    ({"url": None}, "E003", '["url"] must be a string, not NoneType', "default"),
    ({"prefix": 1}, "E003", '["prefix"] must be a string', "default"),
    ({"websocket_url_prefix": None}, "E003", '["websocket_url_prefix"]', "default"),
    ({"envelope_key": b"x"}, "E003", '["envelope_key"]', "default"),
    ({"host": 1}, "E003", '["host"]', "default"),
    ({"authorize_method": len}, "E003", '["authorize_method"] must be a string', "def"),
    ({"append_slash": "False"}, "E003", '["append_slash"] must be True or', "compare"),
    ({"token_in_query": 1}, "E003", '["token_in_query"]', "compare"),
    ({"outbox": "yes"}, "E003", '["outbox"]', "compare"),
    ({"port": "8000"}, "E003", '["port"] must be a whole number, not str', "int("),
    ({"db_threads": True}, "E003", '["db_threads"] must be a whole', "int("),
    ({"drain_s": "10"}, "E003", '["drain_s"] must be a number', "float("),
    ({"drain_s": float("nan")}, "E003", '["drain_s"] must be a number', "float("),
    ({"tokenauth_method": None}, "E003", '["tokenauth_method"] must be', '["one"'),
    ({"tokenauth_method": [len]}, "E003", '["tokenauth_method"] must be', '["one"'),
    ({"allowed_origins": 1}, "E003", '["allowed_origins"]', '["one"'),
    ({"trusted_proxies": None}, "E003", '["trusted_proxies"]', '["one"'),
    ({"publishable_models": 5}, "E003", '["publishable_models"]', '["one"'),
    ({"address": 6379}, "E003", '["address"]', '("localhost", 6379)'),
    ({"address": ("a",)}, "E003", '["address"]', '("localhost", 6379)'),
    ({"db": "0"}, "E003", '["db"] must be a whole number', "int("),
    ({"username": 1}, "E003", '["username"] must be a string or None', "default"),
    ({"password": 1}, "E003", '["password"] must be a string or None', "default"),
    ({"limits": {"message_bytes": "1"}}, "E003", '["message_bytes"]', "int("),
    ({"limits": {"heartbeat_s": None}}, "E003", '["heartbeat_s"]', "float("),
    ({"channels": {"a": {"presence": 1}}}, "E003", '["presence"] must be', "compare"),
    ({"channels": {"a": {"models": "a.B"}}}, "E003", '["models"] must be a list', "list"),
    ({"live": {"enabled": "1"}}, "E003", '["live"]["enabled"]', "compare"),
    # Bounds and choices.
    ({"db_threads": 0}, "E004", '["db_threads"] must be at least 1', "larger"),
    ({"drain_s": -1}, "E004", '["drain_s"] must be at least 0', "larger"),
    ({"reconnect_spread_s": -1}, "E004", '["reconnect_spread_s"] must be', "larger"),
    ({"port": -1}, "E004", '["port"] must be at least 0', "larger"),
    ({"port": 65_536}, "E004", '["port"] must be at most 65535', "free one"),
    ({"db": -1}, "E004", '["db"] must be at least 0', "larger"),
    ({"limits": {"message_bytes": 0}}, "E004", '["message_bytes"]', "default"),
    ({"limits": {"heartbeat_s": -1.0}}, "E004", '["heartbeat_s"]', "default"),
    ({"limits": {"handler_grace_s": -1}}, "E004", '["handler_grace_s"]', "default"),
    (
        {"channels": {"a": {"subscribe": "everyone"}}},
        "E004",
        "[\"subscribe\"] is 'everyone'",
        "'anyone', 'authenticated'",
    ),
    ({"channels": {"a": {"publish": "all"}}}, "E004", '["publish"]', "'anyone'"),
    ({"channels": {"a": {"slow": "wait"}}}, "E004", '["slow"]', "'latest'"),
    ({"channels": {"a": {"presence_by": "tab"}}}, "E004", '["presence_by"]', "'user'"),
    ({"channels": {"a": {"history_size": -1}}}, "E004", '["history_size"]', "larger"),
    ({"channels": {"a": {"history_ttl_s": 0}}}, "E004", '["history_ttl_s"]', "larger"),
    ({"channels": {"a": {"leave_delay_s": -1}}}, "E004", '["leave_delay_s"]', "larger"),
    ({"channels": {"a": {"replay": -1}}}, "E004", '["replay"]', "larger"),
    # Where Redis is.
    ({"url": ""}, "E005", '["url"] must begin with', "redis://localhost"),
    ({"url": "localhost:6379"}, "E005", '["url"] must begin with', "redis://"),
    ({"url": "http://localhost"}, "E005", '["url"] must begin with', "rediss://"),
    ({"url": "redis://localhost:port"}, "E005", "no readable host", "Escape"),
    ({"url": "redis://[::1"}, "E005", "no readable host", "Escape"),
    ({"url": "redis://localhost:0"}, "E005", "port 0", "redis://"),
    ({"url": "redis://localhost/main"}, "E005", "a database's number", "/0"),
    ({"url": "unix://"}, "E005", "names no socket", "unix:///run"),
    ({"url": "redis+sentinel://one:26379"}, "E005", "name the master", "/mymaster"),
    ({"url": "redis+sentinel://one:0/m"}, "E005", "no possible port", "redis+sentinel"),
    ({"url": "rediss+sentinel://one/m/x"}, "E005", "a database's number", "redis+sent"),
    (
        {"url": "redis://localhost", "address": ("localhost", 6379), "db": 1},
        "E005",
        '["url"] wins, so REDIS_PUBSUB["address"], REDIS_PUBSUB["db"]',
        "take the URL out",
    ),
    ({"address": "localhost:6379"}, "E005", '["address"]', "/run/redis.sock"),
    ({"address": ("localhost", 0)}, "E005", "no possible port", "redis://"),
    # What is named elsewhere.
    (
        {"tokenauth_method": "tests.nowhere.method"},
        "E006",
        "'tests.nowhere.method', which cannot be used: ModuleNotFoundError",
        "package.module.name",
    ),
    ({"tokenauth_method": ["method"]}, "E006", "'method'", "package.module.name"),
    (
        {"tokenauth_method": "tests.test_checks.missing"},
        "E006",
        "ImportError",
        "package.module.name",
    ),
    (
        {"authorize_method": "tests.test_checks.something_not_callable"},
        "E006",
        '["authorize_method"] names',
        "something callable",
    ),
    ({"publishable_models": ["shop.Mesage"]}, "E012", "no model", '"shop.Message"?'),
    ({"publishable_models": "User"}, "E012", "no model 'User'", "app_label.ModelName"),
    (
        {"channels": {"a": {"models": ["shop.Nothing"]}}},
        "E012",
        '["channels"]["a"]["models"]: there is no model',
        "INSTALLED_APPS",
    ),
    # History, origins, proxies.
    (
        {"channels": {"a": {"positioned": True, "history_size": 0}}},
        "E009",
        '["positioned"]',
        "history_size",
    ),
    (
        {"channels": {"a": {"force_recovery": True, "history_size": 0}}},
        "E009",
        "no history",
        "history_size",
    ),
    ({"allowed_origins": ["*"]}, "E010", '"*" is refused', "cookies"),
    ({"allowed_origins": "a.example"}, "E010", "no scheme", '"https://a.example"'),
    ({"allowed_origins": ["https://a.example/"]}, "E010", "no page", "final slash"),
    ({"allowed_origins": ["https://*"]}, "E010", "no page", "star"),
    ({"allowed_origins": ["https://a.*.example"]}, "E010", "no page", "star"),
    ({"allowed_origins": ["ftp://a.example"]}, "E010", "no page", "scheme"),
    ({"trusted_proxies": ["*"]}, "E011", "'*' is neither", "10.0.0.0/8"),
    ({"trusted_proxies": "proxy.example"}, "E011", "'proxy.example'", "not looked up"),
]


@pytest.mark.parametrize(("setting", "id", "text", "hint"), WRONG)
def test_a_wrong_setting_is_one_message_with_place_and_remedy(
    told, setting, id, text, hint
):
    """The id, where it is, what to write."""
    (message,) = told(setting)

    assert message.id == f"redis_pubsub.{id}"
    assert text in message.msg
    assert hint in message.hint


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"*": {"audience": False}}, "shop.Document says who may see what"),
        ({"b": {"audience": False, "models": ["shop.Note"]}}, "shop.Note says who"),
        ({"b": {"audience": True, "publish": "anyone"}}, "nothing that clients publish"),
    ],
)
def test_a_rule_that_speaks_against_audiences_is_told(told, rule, text):
    """A model's word on who may see what holds whatever a rule says."""
    found = told({"channels": rule})

    assert {*ids(found)} == {"E013"}
    assert any(text in message.msg for message in found)


def test_rules_of_other_channels_may_say_what_they_like_of_audiences(told):
    """Only channels that carry such a model are meant."""
    assert told({"channels": {"news:*": {"audience": False}}}) == []
    assert told({"channels": {"board": {"audience": True, "history_size": 5}}}) == []


@pytest.mark.parametrize("setting", [case[0] for case in WRONG])
def test_what_cannot_be_read_is_reported(told, setting):
    """`conf.read` stops a process with its first complaint; the checks come first."""
    errors = [message for message in told(setting) if message.is_serious()]

    try:
        conf.read(setting)
    except (ImproperlyConfigured, TypeError, ValueError, AttributeError):
        assert errors


def test_every_wrong_key_is_told_on_its_own(told):
    """One run shows all mistakes, not the first."""
    found = told(
        {
            "url": 6379,
            "prefx": "a",
            "port": "8000",
            "limits": {"message_bytes": -1, "nothing": 1},
            "channels": {"a": {"slow": "wait", "publish": 1}, "b": None},
            "allowed_origins": ["*", "https://a.example", "b.example"],
            "tokenauth_method": ["nowhere.a", "nowhere.b"],
        }
    )

    assert sorted(ids(found)) == (
        ["E001"] * 2 + ["E002"] + ["E003"] * 3 + ["E004"] * 2 + ["E006"] * 2 + ["E010"] * 2
    )


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"url": "redis://localhost:6379/0", "prefix": "shop"},
        {"url": "rediss://user:pass%2Fword@redis.example:6380/3"},
        {"url": "unix:///run/redis.sock?db=2"},
        {"url": "memory://", "append_slash": False},
        {"address": ("localhost", 6379), "db": 0, "password": None},
        {"address": "/run/redis.sock"},
        {"address": ["localhost", 6379], "username": "a", "password": "b"},
        {"tokenauth_method": "redis_pubsub.auth.authtoken_method"},
        {"tokenauth_method": "redis_pubsub.auth.authjwt_method"},
        {"tokenauth_method": ["redis_pubsub.auth.authtoken_method", "builtins.len"]},
        {"tokenauth_method": []},
        {"authorize_method": "builtins.len", "token_in_query": True},
        {"allowed_origins": ["https://a.example", "http://*.b.example:8000"]},
        {"trusted_proxies": ["unix", "::1", "10.0.0.0/8", "192.0.2.7"]},
        {"publishable_models": ["shop.Message", "auth.user"]},
        {
            "channels": {
                "news:*": {
                    "history_size": 10,
                    "history_ttl_s": 60,
                    "positioned": True,
                    "force_recovery": True,
                    "subscribe": "anyone",
                    "publish": "authenticated",
                    "slow": "latest",
                    "presence": True,
                    "presence_by": "user",
                    "models": ["shop.Message"],
                }
            }
        },
        {"limits": {"message_bytes": 1, "heartbeat_s": 5, "handler_grace_s": 0}},
        {"live": {"enabled": True, "path": "/live", "anonymous": False, "token_key": "k"}},
        {"live": {"token_key": ["new", "old"]}},
        {"db_threads": 1, "drain_s": 0, "host": "::", "port": 0, "envelope_key": "key"},
        {"outbox": False},
        {"outbox": True},
        {"url": "redis+sentinel://:p@one:26379,two:26380/mymaster/2?sentinel_password=s"},
        {"url": "rediss+sentinel://one/mymaster", "reconnect_spread_s": 0},
    ],
)
def test_a_right_setting_is_silent(told, setting):
    """No message for what works, nor for keys whose parts come in later versions."""
    assert told(setting) == []


class NoTables:
    """A router that keeps the tables out of every database."""

    def allow_migrate(self, db, app_label, **hints):
        return app_label != "redis_pubsub"


def test_an_outbox_without_tables_is_told(told, settings):
    """It would keep nothing."""
    settings.DATABASE_ROUTERS = [f"{__name__}.NoTables"]

    (message,) = told({"outbox": True})

    assert message.id == "redis_pubsub.W002" and "DATABASE_ROUTERS" in message.msg


def test_no_setting_at_all_is_silent(settings):
    """Every key has a default."""
    del settings.REDIS_PUBSUB

    assert run_checks(tags=["redis_pubsub"]) == []


def test_a_password_is_not_repeated(told):
    """Messages end up in logs and CI output."""
    found = [
        *told({"url": "redis://user:hunter2@host:port"}),
        *told({"url": "redi://user:hunter2@host"}),
        *told({"password": ["hunter2"]}),
    ]

    assert len(found) == 3
    assert not any("hunter2" in f"{message.msg} {message.hint}" for message in found)


def test_every_option_has_a_kind():
    """An option that is added to a dataclass is checked, not called unknown."""
    assert set(shape.KINDS) == conf.KEYS
    assert set(shape.CHANNEL_KINDS) == {field.name for field in fields(ChannelOptions)}
    assert set(shape.LIMIT_KINDS) == {field.name for field in fields(Limits)}


@pytest.fixture
def without_authtoken(settings):
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if not app.startswith("rest_framework")
    ]


def test_authtoken_method_needs_its_app(told, without_authtoken):
    """Named explicitly, a method must be able to work."""
    (message,) = told({"tokenauth_method": "redis_pubsub.auth.authtoken_method"})

    assert ids([message]) == ["E007"]
    assert '"rest_framework.authtoken" to INSTALLED_APPS' in message.hint
    assert "pip install" not in message.hint


def test_authtoken_method_names_the_extra(told, without_authtoken, monkeypatch):
    """Where the package is not installed either, the hint says how to get it."""
    monkeypatch.setitem(sys.modules, "rest_framework", None)

    (message,) = told({"tokenauth_method": ["redis_pubsub.auth.authtoken_method"]})

    assert ids([message]) == ["E007"]
    assert "pip install django-redis-pubsub[drf]" in message.hint


def test_a_site_with_cookies_only_hears_nothing_of_tokens(told, without_authtoken):
    """The default method needs a package that such a site has no use for."""
    assert told({}) == []


def test_a_site_that_expects_tokens_is_warned_of_the_default(told, without_authtoken):
    """Tokens in the query are wanted, and nothing could check them."""
    found = told({"token_in_query": True})

    assert ids(found) == ["W001"]
    assert told({"token_in_query": True, "tokenauth_method": "builtins.len"}) == []


def test_authjwt_method_needs_one_of_two_packages(told, monkeypatch):
    """simplejwt or drf-jwt; the hint names the extra."""
    setting = {"tokenauth_method": "redis_pubsub.auth.authjwt_method"}
    monkeypatch.setitem(sys.modules, "rest_framework_simplejwt", None)
    monkeypatch.setitem(sys.modules, "rest_framework_jwt", None)

    (message,) = told(setting)

    assert ids([message]) == ["E007"]
    assert "pip install django-redis-pubsub[jwt]" in message.hint


@pytest.mark.parametrize(
    ("workers", "url", "expected"),
    [
        ("2", "memory://", ["E008"]),
        ("1", "memory://", []),
        ("two", "memory://", []),
        ("2", "redis://localhost", []),
    ],
)
def test_memory_with_several_workers_is_refused(told, monkeypatch, workers, url, expected):
    """C-10: each worker would have its own; the text says what to set."""
    monkeypatch.setenv("WEB_CONCURRENCY", workers)

    found = told({"url": url})

    assert ids(found) == expected
    assert all("WEB_CONCURRENCY to 1" in message.hint for message in found)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"url": "redis://localhost"}, []),
        ({"url": "memory://"}, ["W003"]),
        ({"token_in_query": True}, ["W004"]),
        ({"url": "memory://", "outbox": True}, ["W003", "W005"]),
        (["no dict"], ["E002"]),
        ({"live": {"token_key": LONG}}, []),
        ({"live": {"token_key": "short"}}, ["W014"]),
        ({"live": {"token_key": [LONG, "short"]}}, ["W014"]),
        ({"live": {"token_key": [LONG, site_settings.SECRET_KEY]}}, ["W015"]),
        ({"envelope_key": "short"}, ["W014"]),
        ({"envelope_key": site_settings.SECRET_KEY}, ["W015"]),
        ({"health": {"metrics_token": "guess"}}, ["W016"]),
        ({"health": {"metrics_token": LONG}}, []),
        ({"trusted_proxies": ["10.0.0.0/8", "unix"]}, []),
        ({"trusted_proxies": ["0.0.0.0/0"]}, ["W017"]),
        ({"trusted_proxies": ["unix", "::/0"]}, ["W017"]),
        ({"url": "redis://redis.example:6379/0"}, ["W012", "W013"]),
        ({"url": "redis://user:secret@10.0.0.7"}, ["W012"]),
        ({"url": "redis://10.0.0.7?password=secret"}, ["W012"]),
        ({"url": "rediss://10.0.0.7"}, ["W013"]),
        ({"url": "rediss://:secret@redis.example"}, []),
        ({"url": "redis://127.0.0.1"}, []),
        ({"url": "redis://[::1]:6379"}, []),
        ({"url": "unix:///run/redis.sock"}, []),
        ({"address": ("redis.example", 6379)}, ["W012", "W013"]),
        ({"address": ("redis.example", 6379), "password": "x"}, ["W012"]),
        ({"address": "/run/redis.sock"}, []),
        ({"live": {"anonymous": True}, "channels": {"a": {"publish": "anyone"}}}, ["W011"]),
        ({"live": {"anonymous": True}, "channels": {"a": {"subscribe": "anyone"}}}, []),
        ({"channels": {"a": {"publish": "anyone"}}}, []),
    ],
)
def test_a_deployment_is_warned(told, setting, expected):
    """``check --deploy`` says what is fine only while developing."""
    assert ids(told(setting, deploy=True)) == expected


@pytest.mark.parametrize(
    ("same_site", "expected"),
    [
        ("Lax", []),
        ("Strict", []),
        ("None", ["W010"]),
        ("none", ["W010"]),
        (False, ["W010"]),
    ],
)
def test_a_cookie_that_goes_with_any_page_is_told(told, settings, same_site, expected):
    """Browsers hold it back on other sites' pages, unless they are told not to."""
    settings.SESSION_COOKIE_SAMESITE = same_site

    assert ids(told({}, deploy=True)) == expected


def test_a_site_without_sessions_hears_nothing_of_cookies(told, settings):
    settings.SESSION_COOKIE_SAMESITE = False
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "django.contrib.sessions"
    ]

    assert told({}, deploy=True) == []


def test_no_secret_is_repeated_by_a_warning(told):
    """Messages end up in logs and CI output."""
    found = told(
        {
            "url": "redis://user:hunter2@redis.example",
            "live": {"token_key": "hunter2"},
            "health": {"metrics_token": "hunter2"},
        },
        deploy=True,
    )

    assert len(found) == 3 and "hunter2" not in str(found)


class TestModels:
    """Models are checked as they publish themselves."""

    @pytest.fixture
    def told_of(self):
        """What the checks say of the models that the test defines."""

        def run() -> list[CheckMessage]:
            found = run_checks([own.get_app_config("shop")], tags=["redis_pubsub"])
            assert all(message.hint for message in found)
            return found

        with isolate_apps("tests.shop") as own:
            yield run

    def test_a_secret_is_not_published_by_default(self, told_of):
        """Password-like names are refused, whole words only."""

        class Account(PublishableModel):
            name = models.TextField()
            password_hash = models.TextField()
            compass = models.TextField()

            class Meta:
                app_label = "shop"

        (message,) = told_of()

        assert ids([message]) == ["E101"] and message.obj is Account
        assert '"password_hash"' in message.msg
        assert "PUBLISH_FIELDS" in message.hint

    def test_hooks_that_would_withhold_everything_are_told(self, told_of):
        """An instance method, and a coroutine function."""

        class Secretive(PublishableModel):
            def can_view(self, user):
                return True

            @classmethod
            async def audience_key(cls, user):
                return None

            class Meta:
                app_label = "shop"

        found = told_of()

        assert ids(found) == ["E107", "E107"]
        assert "classmethod def can_view(cls, user, instance)" in found[0].hint
        assert "coroutine" in found[1].msg

    def test_a_secret_in_a_snapshot_is_told_whatever_is_sent(self, told_of):
        """Redis keeps all fields of a model with audiences."""

        class Vault(PublishableModel):
            PUBLISH_FIELDS = ("name",)
            name = models.TextField()
            api_key = models.TextField()

            @classmethod
            def can_view(cls, user, instance):
                return True

            class Meta:
                app_label = "shop"

        (message,) = told_of()

        assert ids([message]) == ["E108"] and '"api_key"' in message.msg

    def test_a_secret_that_is_named_or_inherited_is_told_too(self, told_of):
        """Naming it in PUBLISH_FIELDS does not make it public."""

        class Named(PublishableModel):
            PUBLISH_FIELDS = ("name", "api_key")
            name = models.TextField()
            api_key = models.TextField()
            token = models.TextField()

            class Meta:
                app_label = "shop"

        class Child(Named):
            PUBLISH_FIELDS = None

            class Meta:
                app_label = "shop"

        found = told_of()

        assert [(m.obj, m.msg.split('"')[1]) for m in found] == [
            (Named, "api_key"),
            (Child, "api_key"),
            (Child, "token"),
        ]

    def test_a_secret_that_is_not_sent_is_fine(self, told_of):
        """Left out of PUBLISH_FIELDS, or rendered by code of the site's own."""

        class Narrow(PublishableModel):
            PUBLISH_FIELDS = ["name", "pk"]
            name = models.TextField()
            password = models.TextField()

            class Meta:
                app_label = "shop"

        class Own(PublishableModel):
            password = models.TextField()

            def serialize(self):
                return {}

            class Meta:
                app_label = "shop"

        class Rendered(PublishableModel):
            PUBLISH_SERIALIZER = "tests.shop.serializers.OrderSerializer"
            password = models.TextField()

            class Meta:
                app_label = "shop"

        assert told_of() == []

    def test_a_secret_primary_key_is_always_told(self, told_of):
        """Every message carries the key, whatever renders the payload."""

        class Ticket(PublishableModel):
            PUBLISH_FIELDS = []
            token = models.TextField(primary_key=True)

            class Meta:
                app_label = "shop"

        (message,) = told_of()

        assert ids([message]) == ["E101"] and "primary key" in message.hint

    def test_a_misspelt_attribute_is_told_with_what_was_meant(self, told_of):
        """A wrong name would silently send nothing, or fail every save."""

        class Wrong(PublishableModel):
            PUBLISH_FIELDS = ["nme", "author_id"]
            PUBLISH_VERSION = "revison"
            PUBLISH_SERIALIZER = None
            name = models.TextField()
            revision = models.IntegerField()

            class Meta:
                app_label = "shop"

        class Text(PublishableModel):
            PUBLISH_FIELDS = "name"
            PUBLISH_SERIALIZER = None
            name = models.TextField()

            class Meta:
                app_label = "shop"

        class Nowhere(PublishableModel):
            PUBLISH_SERIALIZER = "tests.shop.serializers.Missing"

            class Meta:
                app_label = "shop"

        class NoClass(PublishableModel):
            PUBLISH_SERIALIZER = 7
            PUBLISH_OUTBOX = "no"

            class Meta:
                app_label = "shop"

        found = told_of()

        assert [(m.obj, m.id[-4:]) for m in found] == [
            (Wrong, "E102"),
            (Wrong, "E102"),
            (Wrong, "E103"),
            (Text, "E102"),
            (Nowhere, "E104"),
            (NoClass, "E104"),
            (NoClass, "E106"),
        ]
        assert 'Did you mean "name"?' in found[0].hint
        assert 'Did you mean "revision"?' in found[2].hint
        assert "must be a list" in found[3].msg
        assert "tests.shop.serializers.Missing" in found[4].msg

    def test_the_moment_of_a_tracked_row_is_a_datetime_that_is_set_once(self, told_of):
        """Retention goes by it; one that moves would make pruned rows owed again."""

        class Missing(PublishableModel):
            TRACK_DELIVERY_BY = "created_at"

            class Meta:
                app_label = "shop"

        class Moving(PublishableModel):
            TRACK_DELIVERY_BY = "saved_at"
            saved_at = models.DateTimeField(auto_now=True)

            class Meta:
                app_label = "shop"

        class Sound(PublishableModel):
            TRACK_DELIVERY_BY = "created_at"
            created_at = models.DateTimeField(auto_now_add=True)

            class Meta:
                app_label = "shop"

        found = told_of()

        assert [(m.obj, m.id[-4:]) for m in found] == [(Missing, "E105"), (Moving, "E105")]

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("password", True),
            ("old_password1", True),
            ("passwd", True),
            ("secret_answer", True),
            ("reset_token", True),
            ("api_key", True),
            ("apikey", True),
            ("ssh_private_key", True),
            ("otp_seed", True),
            ("totp", True),
            ("clientSecret", True),
            ("APIKey", True),
            ("secretary", False),
            ("compass_direction", False),
            ("tokenizer", False),
            ("key", False),
            ("api_url", False),
            ("private", False),
            ("option", False),
        ],
    )
    def test_a_secret_is_told_by_whole_words(self, name, expected):
        """``secretary`` is a person."""
        assert looks_secret(name) is expected

    def test_a_change_at_run_time_is_seen(self, told, monkeypatch):
        """All models of all apps are looked at when no app is named."""
        monkeypatch.setattr(Parcel, "PUBLISH_FIELDS", ["lable"])

        (message,) = told({})

        assert message.obj is Parcel and 'Did you mean "label"?' in message.hint


@pytest.mark.django_db
def test_the_test_site_checks_clean():
    """P1: adding the app gives a clean ``manage.py check``."""
    assert run_checks() == []


@pytest.mark.django_db
def test_no_migration_is_missing():
    """P1: ``makemigrations --check`` is clean."""
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_a_broken_setting_stops_manage_py_with_all_its_messages(tmp_path):
    """Nothing reads the setting before the checks have spoken."""
    (tmp_path / "broken.py").write_text(
        "from tests.settings import *\n"
        'REDIS_PUBSUB = {"url": None, "limits": 7, "prot": 1, "allowed_origins": 5}\n'
    )

    ran = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            "DJANGO_SETTINGS_MODULE": "broken",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.returncode == 1
    assert "4 issues" in ran.stderr and 'Did you mean "port"?' in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_setting_that_is_no_dict_says_so_wherever_it_is_read():
    """Also where nobody has run the checks."""
    with pytest.raises(ImproperlyConfigured, match="must be a dict, not str"):
        conf.read("redis://localhost")
