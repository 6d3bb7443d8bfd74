"""Which channels are for judged messages alone, and which models a message may be of.

Only settings and models are asked, nobody's rights.
"""

from __future__ import annotations

from django.apps import apps
from django.db import models

from ..conf import Config
from ..messages import EVERYONE, Message
from ..metrics import Metrics
from ..models import PublishableModel
from ..models.publishable import has_audiences


def model_named(label: str) -> type[models.Model] | None:
    """The model of a label, however that is spelt; ``None`` if there is none."""
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        return None


def published_model(
    config: Config, metrics: Metrics, message: Message
) -> type[models.Model] | None:
    """The model that a message says it is a row of, if its channel may carry that."""
    label = message.model
    if not label:
        return None
    model = model_named(label)
    if model is None:
        return None
    may_carry = config.model_channel_options(message.channel).models
    if may_carry and label not in map(str.lower, may_carry):
        metrics.count("foreign_models")
        return None
    is_listed = label in map(str.lower, config.publishable_models)
    return model if is_listed or issubclass(model, PublishableModel) else None


def is_for_everybody(config: Config, message: Message) -> bool:
    """Whether nothing has to be asked before a message is shown to somebody: it is no
    snapshot, nor an ordinary message where only judged ones belong."""
    if message.is_judged:
        return False
    is_open = message.header.audience == EVERYONE
    return is_open or not is_audience_channel(config, message.channel)


def is_audience_channel(config: Config, channel: str) -> bool:
    """Whether a channel is for judged messages alone: a rule says so, or names a model
    that has audiences, or the channel is such a model's own."""
    options = config.channel_options(channel)
    if options.audience:
        return True
    label = channel.partition(":")[0]
    return any(_has_audiences(each) for each in (*options.models, label))


def _has_audiences(label: str) -> bool:
    model = model_named(label) if label.count(".") == 1 else None
    return model is not None and has_audiences(model)
