"""From a token or a session cookie to a user."""

from __future__ import annotations

from .authorize import Authorizer
from .methods import Authenticator, AuthUnavailable, authjwt_method, authtoken_method
from .session import user_of_session
from .standing import Standing

__all__ = [
    "AuthUnavailable",
    "Authenticator",
    "Authorizer",
    "Standing",
    "authjwt_method",
    "authtoken_method",
    "user_of_session",
]
