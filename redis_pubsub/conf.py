"""``settings.REDIS_PUBSUB``, read when it is needed and checked once.

Everything below this floor gets its options from here as values, so that nothing is
frozen at import and ``override_settings`` works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar
from urllib.parse import quote

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from .broker import MEMORY
from .broker.addresses import SENTINEL, is_sentinel, sentinel_address
from .options import (
    CHANNEL_OPTION_NAMES,
    BrokerOptions,
    ChannelOptions,
    ChannelRules,
    HealthOptions,
    Limits,
    LiveOptions,
    ReceiptOptions,
    WorkerOptions,
)

SETTING = "REDIS_PUBSUB"
T = TypeVar("T")
URL_SCHEMES = ("redis://", "rediss://", *SENTINEL, "unix://", MEMORY)
ADDRESS_KEYS = ("address", "db", "username", "password")
MODEL_CHANNEL = ChannelOptions(
    history_size=100, history_ttl_s=600, positioned=True, force_recovery=True
)
"""What a channel gets that carries models, where no rule names it."""


@dataclass(frozen=True)
class Config:
    """The setting, with its defaults. The keys are described in
    docs/reference/settings.rst.

    Attributes:
        channel_options: What holds for a channel that carries any values, by its name.
        model_channel_options: The same for one that carries models: a history by default.
    """

    url: str = "redis://localhost:6379/0"
    prefix: str = "pubsub"
    tokenauth_method: tuple[str, ...] = ("redis_pubsub.auth.authtoken_method",)
    websocket_url_prefix: str = ""
    append_slash: bool = True
    token_in_query: bool = False
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1", "unix")
    authorize_method: str = ""
    publishable_models: tuple[str, ...] = ()
    envelope_key: str = ""
    outbox: bool = False
    channels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    live: Mapping[str, Any] = field(default_factory=dict)
    receipts: ReceiptOptions = field(default_factory=ReceiptOptions)
    health: Mapping[str, Any] = field(default_factory=dict)
    workers: WorkerOptions = field(default_factory=WorkerOptions)
    limits: Limits = field(default_factory=Limits)
    db_threads: int = 8
    drain_s: float = 10.0
    reconnect_spread_s: float = 20.0
    host: str = "localhost"
    port: int = 8000
    live_options: LiveOptions = field(default_factory=LiveOptions)
    health_options: HealthOptions = field(default_factory=HealthOptions)
    channel_rules: ChannelRules = field(default_factory=lambda: ChannelRules({}))

    channel_options: Callable[[str], ChannelOptions] = field(init=False)
    model_channel_options: Callable[[str], ChannelOptions] = field(init=False)

    def __post_init__(self) -> None:
        plain = self.channel_rules.beside(ChannelOptions())
        modelled = self.channel_rules.beside(MODEL_CHANNEL)
        object.__setattr__(self, "channel_options", plain)
        object.__setattr__(self, "model_channel_options", modelled)

    def plain_channel_options(self, channel: str) -> tuple[ChannelOptions, bool]:
        """What holds for a plain value on a channel.

        Returns:
            The options, and whether the value joins a history only where there is one:
            no rule says that the channel keeps any, but it may carry models.
        """
        ruled, modelled = self.channel_options(channel), self.model_channel_options(channel)
        if ruled.has_history or not modelled.has_history:
            return ruled, False
        return modelled, True

    def broker_options(self) -> BrokerOptions:
        return BrokerOptions(
            url=self.url,
            prefix=self.prefix,
            envelope_key=self.envelope_key,
            channel_options=self.channel_options,
            subscribe_timeout_s=self.limits.subscribe_timeout_s,
            probe_s=self.limits.probe_s,
            workers=self.workers,
        )


_DERIVED = frozenset(("channel_rules", "live_options", "health_options"))
KEYS = frozenset(f.name for f in fields(Config) if f.init) - _DERIVED | set(ADDRESS_KEYS)
_LISTS = frozenset(
    ("tokenauth_method", "allowed_origins", "trusted_proxies", "publishable_models")
)
_SWITCHES = frozenset(("append_slash", "token_in_query", "outbox"))


def read(values: Mapping[str, Any]) -> Config:
    """Make a `Config` of a setting.

    Raises:
        ImproperlyConfigured: A value is of the wrong kind. Unknown keys pass: the
            system check ``redis_pubsub.E001`` reports them.
    """
    if not isinstance(values, Mapping):
        raise ImproperlyConfigured(
            f"{SETTING} must be a dict, not {type(values).__name__}: "
            f"write {SETTING} = {{…}}"
        )
    try:
        return _read(values)
    except (TypeError, ValueError, AttributeError) as error:
        raise ImproperlyConfigured(f"{SETTING}: {error}") from error


def _read(values: Mapping[str, Any]) -> Config:
    known = {key: value for key, value in values.items() if key in KEYS}
    address = {key: known.pop(key) for key in ADDRESS_KEYS if key in known}
    if address and "url" not in known:
        known["url"] = _url(address)
    if not str(known.get("url", MEMORY)).startswith(URL_SCHEMES):
        raise ValueError(f'"url" must begin with one of {", ".join(URL_SCHEMES)}')
    if is_sentinel(str(known.get("url", MEMORY))):
        try:
            sentinel_address(known["url"])
        except ValueError as error:
            raise ValueError(f'"url": {error}') from None
    known.setdefault("append_slash", settings.APPEND_SLASH)
    for key in _LISTS & known.keys():
        value = known[key]
        known[key] = (value,) if isinstance(value, str) else tuple(value)
    for key in _SWITCHES & known.keys():
        if not isinstance(known[key], bool):
            # "False" from an environment variable is true; nobody means that.
            raise TypeError(f"{key!r} must be True or False, not {known[key]!r}")
    known["limits"] = _section(Limits, known, "limits")
    known["receipts"] = _section(ReceiptOptions, known, "receipts")
    known["workers"] = _section(WorkerOptions, known, "workers")
    known["live_options"] = _live(_section(LiveOptions, known, "live"))
    known["health_options"] = _section(HealthOptions, known, "health")
    known["channel_rules"] = _rules(known.get("channels", {}))
    return Config(**known)


def _section(kind: Callable[..., T], known: Mapping[str, Any], name: str) -> T:
    """One dict of the setting as its options.

    Raises:
        ValueError: It has keys that no option has.
        TypeError: It is no dict.
    """
    values = known.get(name, {})
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - names)
    if unknown:
        raise ValueError(f'unknown in "{name}": {", ".join(unknown)}')
    return kind(**values)


def _live(options: LiveOptions) -> LiveOptions:
    if not all(isinstance(key, str) for key in options.token_keys):
        raise TypeError('"token_key" in "live" must be a string, or a list of strings')
    return options


def _rules(values: Mapping[str, Mapping[str, Any]]) -> ChannelRules:
    for pattern, options in values.items():
        unknown = sorted(set(options) - CHANNEL_OPTION_NAMES)
        if unknown:
            raise ValueError(f'unknown in "channels" for {pattern!r}: {", ".join(unknown)}')
    return ChannelRules(values)


def _url(address: Mapping[str, Any]) -> str:
    """The URL of version 1.0's ``address``, ``db`` and ``password``."""
    where = address.get("address", ("localhost", 6379))
    login = ""
    if address.get("password") or address.get("username"):
        username = quote(str(address.get("username") or ""), safe="")
        login = f"{username}:{quote(str(address.get('password') or ''), safe='')}@"
    db = address.get("db", 0)
    if isinstance(where, str):
        return f"unix://{login}{where}?db={db}"
    host, port = where
    return f"redis://{login}{host}:{port}/{db}"


class _Current:
    """The active configuration; read at first use, dropped when the setting changes."""

    def __init__(self) -> None:
        self._config: Config | None = None
        setting_changed.connect(self._changed)

    def get(self) -> Config:
        if self._config is None:
            self._config = read(getattr(settings, SETTING, {}))
        return self._config

    def _changed(self, *, setting: str, **kwargs: Any) -> None:
        if setting in (SETTING, "APPEND_SLASH"):
            self._config = None


_current = _Current()


def get_config() -> Config:
    """The active configuration.

    Raises:
        ImproperlyConfigured: See `read`.
    """
    return _current.get()
