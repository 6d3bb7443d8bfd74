"""Tokens of this site's own: `redis_pubsub.auth.tokens`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from types import SimpleNamespace

import jwt
import pytest
from django.core.exceptions import ImproperlyConfigured

from redis_pubsub.auth.tokens import (
    ExpiredToken,
    InvalidToken,
    connection_token,
    expiry_of,
    sign,
    subscription_token,
    verify,
)

KEY = "a key that is long enough for HS256, which wants 32 bytes"
USER = SimpleNamespace(pk=7)


@pytest.fixture(autouse=True)
def key(settings):
    settings.REDIS_PUBSUB = {"live": {"token_key": KEY}}


def part(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token_of(header, claims, key=KEY, digest=hashlib.sha256):
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(hmac.digest(key.encode(), signed.encode(), digest))}"


HS256 = {"alg": "HS256", "typ": "JWT"}


def test_a_token_says_who_its_bearer_is():
    """What was put in comes out."""
    claims = verify(connection_token(USER, ttl_s=60, info={"name": "Ada"}), KEY)

    assert (claims.sub, claims.channel) == ("7", "")
    assert 50 < claims.exp - time.time() <= 60
    assert json.loads(bytes(claims.info)) == {"name": "Ada"}


def test_a_subscription_token_is_for_one_channel_and_perhaps_for_nobody():
    """`sub` is "" for a client that is nobody."""
    assert verify(subscription_token(USER, "room:1"), KEY).channel == "room:1"
    assert verify(subscription_token(None, "room:1"), KEY).sub == ""


def test_other_libraries_read_and_write_these_tokens():
    """RFC 7519: made by PyJWT they are good here, and the other way round."""
    theirs = jwt.encode({"sub": "7", "exp": int(time.time()) + 9}, KEY, algorithm="HS256")
    ours = connection_token(USER)

    assert verify(theirs, KEY).sub == "7"
    assert jwt.decode(ours, KEY, algorithms=["HS256"])["sub"] == "7"


GOOD = token_of(HS256, {"sub": "7"})
HEAD, BODY, SIGNATURE = GOOD.split(".")
NONE = f"{part({'alg': 'none'})}.{part({'sub': '7'})}"
FORGED = {
    "nothing": "",
    "no token": "hello",
    "two parts": f"{HEAD}.{BODY}",
    "four parts": f"{GOOD}.{SIGNATURE}",
    "no signature": f"{HEAD}.{BODY}.",
    "alg none": f"{NONE}.",
    "alg none, with a signature": f"{NONE}.{SIGNATURE}",
    "alg none, signed with the key": token_of({"alg": "none"}, {"sub": "7"}),
    "alg None": token_of({"alg": None}, {"sub": "7"}),
    "no alg": token_of({"typ": "JWT"}, {"sub": "7"}),
    "alg in small letters": token_of({"alg": "hs256"}, {"sub": "7"}),
    "another alg": token_of({"alg": "HS512"}, {"sub": "7"}, digest=hashlib.sha512),
    "an alg that is not what was used": token_of({"alg": "RS256"}, {"sub": "7"}),
    "a header that is no object": token_of("HS256", {"sub": "7"}),
    "a header that is no JSON": token_of(b"{", {"sub": "7"}),
    "another key": token_of(HS256, {"sub": "7"}, key="x" * 40),
    "an empty key": token_of(HS256, {"sub": "7"}, key=""),
    "cut": GOOD[:-4],
    "a changed body": f"{HEAD}.{part({'sub': '8'})}.{SIGNATURE}",
    "a changed header": f"{part({'alg': 'HS256', 'x': 1})}.{BODY}.{SIGNATURE}",
    "padded": f"{GOOD}=",
    "a line break inside": f"{HEAD}.{BODY}.\n{SIGNATURE}",
    "a space inside": f"{HEAD}.{BODY}. {SIGNATURE}",
    "not ASCII": f"{HEAD}.{BODY}.{SIGNATURE[:-1]}é",
    "a text for exp": token_of(HS256, {"sub": "7", "exp": "never"}),
    "a number for sub": token_of(HS256, {"sub": 7}),
    "claims that are no object": token_of(HS256, ["7"]),
    "claims nested beyond reason": token_of(HS256, b'{"info":' + b"[" * 9_000),
    "not yet good": token_of(HS256, {"sub": "7", "nbf": time.time() + 3600}),
    "not yet good, and expired": token_of(HS256, {"nbf": time.time() + 3600, "exp": 1}),
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
def test_anything_else_is_no_token(token):
    """One exception whatever is wrong with it; it never passes for one that expired."""
    with pytest.raises(InvalidToken) as refused:
        verify(token, KEY)
    assert refused.type is InvalidToken


def test_a_signature_has_one_spelling():
    """Non-canonical base64 is refused: unused bits, the other alphabet, padding."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(SIGNATURE[-1])
    others = [alphabet[last ^ bits] for bits in (1, 2, 3)]
    spellings = [f"{HEAD}.{BODY}.{SIGNATURE[:-1]}{other}" for other in others]
    for number in range(200):
        token = token_of(HS256, {"sub": str(number)})
        if "-" in token or "_" in token:
            spellings.append(token.replace("-", "+").replace("_", "/"))

    assert verify(GOOD, KEY).sub == "7"
    for spelling in spellings:
        with pytest.raises(InvalidToken):
            verify(spelling, KEY)


@pytest.mark.parametrize("exp", [1, 1.5, -1])
def test_an_expired_token_is_told_apart(exp):
    """Its bearer may fetch a new one: 109 instead of 3500."""
    with pytest.raises(ExpiredToken):
        verify(token_of(HS256, {"sub": "7", "exp": exp}), KEY)


def test_without_a_key_no_token_is_good_and_none_can_be_made(settings):
    """An empty key must not verify what an empty key signed."""
    settings.REDIS_PUBSUB = {}

    with pytest.raises(InvalidToken):
        verify(sign(b'{"sub":"7"}', ""), "")
    with pytest.raises(ImproperlyConfigured):
        connection_token(USER)


def test_the_end_of_any_json_web_token_can_be_read():
    """Whatever else its issuer put in: a number for `sub`, an object for `channel`."""
    claims = {"sub": 7, "channel": {"x": 1}, "nbf": "soon", "exp": 1234, "iat": 5}

    assert expiry_of(token_of(HS256, claims, key="another key" * 4)) == 1234
    for other in ("", "key", "a.b.c", f"a.{part([1])}.c", f"a.{part({'sub': 1})}.c"):
        assert expiry_of(other) == 0
