"""Who sees what: asks models to which audience a user belongs, and renders its view.

A message is rendered once for each audience, from the row as it was published, in a
database thread. Whatever fails here is withheld: nobody is shown what was not found out to
be his.
"""

from __future__ import annotations

from .channels import is_audience_channel, is_for_everybody, published_model
from .judge import Audiences
from .rendering import Audience

__all__ = [
    "Audience",
    "Audiences",
    "is_audience_channel",
    "is_for_everybody",
    "published_model",
]
