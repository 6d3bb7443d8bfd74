"""From a token or a session cookie to a user."""

from __future__ import annotations

from .authenticator import Authenticator, AuthUnavailable
from .authorize import Authorizer
from .methods import authjwt_method, authjwt_stateless_method, authtoken_method
from .personal import NoPersonalChannels, PersonalChannels, personal_channels
from .session import user_of_session
from .standing import Standing

__all__ = [
    "AuthUnavailable",
    "Authenticator",
    "Authorizer",
    "NoPersonalChannels",
    "PersonalChannels",
    "Standing",
    "authjwt_method",
    "authjwt_stateless_method",
    "authtoken_method",
    "personal_channels",
    "user_of_session",
]
