"""JSON web tokens: keys of every kind, their rotation, and what forgers try."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time

import jwt
import pytest
from asgiref.sync import sync_to_async
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from rest_framework_simplejwt import state
from rest_framework_simplejwt.backends import TokenBackend

from redis_pubsub.auth import AuthUnavailable, authjwt_method, methods, published_keys
from redis_pubsub.auth.tokens import InvalidToken, connection_token, sign, verify
from redis_pubsub.conf import get_config
from tests.live.client import Live

from .conftest import refusal

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "a secret of simplejwt, long enough for HS512, whose digests have 64 bytes"
PEM = (serialization.Encoding.PEM,)


def pem_of(private):
    return private.private_bytes(
        *PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_of(private):
    return (
        private.public_key()
        .public_bytes(*PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


MADE = {
    "RSA": rsa.generate_private_key(public_exponent=65_537, key_size=2_048),
    "RSA2": rsa.generate_private_key(public_exponent=65_537, key_size=2_048),
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}
KEYS = {name: (pem_of(key), public_of(key)) for name, key in MADE.items()}
ALGORITHMS = {
    "HS256": (SECRET, ""),
    "HS512": (SECRET, ""),
    "RS256": KEYS["RSA"],
    "RS512": KEYS["RSA"],
    "PS256": KEYS["RSA"],
    "ES256": KEYS["P-256"],
    "ES384": KEYS["P-384"],
    "EdDSA": KEYS["Ed25519"],
}


@pytest.fixture
def configure(monkeypatch):
    """Set simplejwt up as its settings would: it reads them once, when it is imported."""

    def configure(algorithm, **options):
        signing, verifying = ALGORITHMS[algorithm]
        options = {"signing_key": signing, "verifying_key": verifying, **options}
        backend = TokenBackend(algorithm, **options)
        monkeypatch.setattr(state, "token_backend", backend)
        monkeypatch.setattr(methods, "published_keys", published_keys.PublishedKeys())
        # However long a test takes.
        monkeypatch.setattr(published_keys, "HOLD_OFF_S", 3_600.0)
        return backend

    return configure


def claims_of(user, **changes):
    claims = {
        "token_type": "access",
        "exp": int(time.time()) + 60,
        "jti": "1",
        "user_id": str(user.pk),
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def signed(user, algorithm="HS256", key=None, headers=None, **changes):
    signing = ALGORITHMS[algorithm][0] if key is None else key
    return jwt.encode(claims_of(user, **changes), signing, algorithm, headers=headers)


def part(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header, claims, key, digest=hashlib.sha256):
    """A token that no library would make."""
    text = f"{part(header)}.{part(claims)}"
    key = key.encode() if isinstance(key, str) else key
    return f"{text}.{part(hmac.digest(key, text.encode(), digest))}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_real_key_of_each_algorithm_lets_its_user_in(configure, user, algorithm):
    """HS, RS, PS, ES and EdDSA; signed with another key of the kind it is nobody's."""
    configure(algorithm)
    other = {
        "H": "another secret, which is as long as the one of these tests is, or longer",
        "R": KEYS["RSA2"][0],
        "P": KEYS["RSA2"][0],
        "E": pem_of(ec.generate_private_key(MADE["P-256"].curve)),
    }[algorithm[0]]
    if algorithm == "ES384":
        other = pem_of(ec.generate_private_key(ec.SECP384R1()))
    if algorithm == "EdDSA":
        other = pem_of(ed25519.Ed25519PrivateKey.generate())

    assert authjwt_method(signed(user, algorithm)) == user
    assert authjwt_method(signed(user, algorithm, key=other)) is None


def forged(user):
    """Name, algorithm of the site, token: what row 6 lists, and what is near it."""
    claims, public = claims_of(user), KEYS["RSA"][1]
    none = f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}"
    yield "alg none", "HS256", f"{none}."
    yield "alg none, for a public key", "RS256", f"{none}."
    yield "alg None", "RS256", f"{part({'alg': 'None'})}.{part(claims)}."
    yield "alg nOnE, signed", "HS256", by_hand({"alg": "nOnE"}, claims, SECRET)
    yield "no alg", "HS256", by_hand({"typ": "JWT"}, claims, SECRET)
    yield "alg is a number", "HS256", by_hand({"alg": 1}, claims, SECRET)
    yield "alg is a list", "HS256", by_hand({"alg": ["HS256"]}, claims, SECRET)
    yield "HS256 by the public key", "RS256", by_hand({"alg": "HS256"}, claims, public)
    yield "HS512 for HS256", "HS256", signed(user, "HS512")
    yield "no end", "HS256", signed(user, exp=None)
    yield "an end that is text", "HS256", signed(user, exp="never")
    yield (
        "an end beyond all measure",
        "HS256",
        by_hand({"alg": "HS256"}, {**claims, "exp": 1e400}, SECRET),
    )
    yield "over", "HS256", signed(user, exp=int(time.time()) - 60)
    yield "not yet", "HS256", signed(user, nbf=int(time.time()) + 600)
    yield "a refresh token", "HS256", signed(user, token_type="refresh")
    yield "a sliding token", "HS256", signed(user, token_type="sliding")
    yield "no type", "HS256", signed(user, token_type=None)
    yield "no user", "HS256", signed(user, user_id=None)
    yield (
        "kid with a path",
        "HS256",
        by_hand({"alg": "HS256", "kid": "../../dev/null"}, claims, b""),
    )
    yield (
        "kid with SQL",
        "RS256",
        by_hand({"alg": "RS256", "kid": "x' UNION SELECT 'k"}, claims, "k"),
    )
    yield (
        "its own key",
        "RS256",
        by_hand({"alg": "RS256", "jwk": {"kty": "oct", "k": "AAAA"}}, claims, b"\0\0\0"),
    )
    yield (
        "its own key server",
        "RS256",
        signed(user, "RS256", KEYS["RSA2"][0], headers={"jku": "http://127.0.0.1:9/"}),
    )
    yield (
        "an extension that must be understood",
        "HS256",
        signed(user, headers={"crit": ["exp"], "exp": 0}),
    )
    yield (
        "deep",
        "HS256",
        by_hand({"alg": "HS256"}, b'{"a":' + b"[" * 3_000 + b"]" * 3_000 + b"}", SECRET),
    )
    yield "cut", "HS256", signed(user)[:-1]
    yield "two parts", "HS256", signed(user).rpartition(".")[0]
    yield "junk", "HS256", "a.b.c"


def test_what_forgers_try_lets_nobody_in(configure, user):
    """Row 6. A method that raises refuses as well, so both are a refusal."""
    let_in = []
    for name, algorithm, token in forged(user):
        configure(algorithm)
        assert authjwt_method(signed(user, algorithm)) == user
        try:
            found = authjwt_method(token)
        except Exception:
            found = None
        if found is not None:
            let_in.append(name)

    assert let_in == []


async def test_every_forgery_gets_the_same_answer(serve_site, configure, user):
    """Over real sockets: one status, one text."""
    served = await serve_site(
        tokenauth_method="redis_pubsub.auth.authjwt_method",
        limits={"auth_failures": 10_000},
    )
    tokens = await sync_to_async(lambda: list(forged(user)))()
    answers = set()
    for _, algorithm, token in [*tokens, ("huge", "HS256", "x." * 3_000 + "x")]:
        configure(algorithm)
        answers.add(await refusal(served, Authorization=f"Bearer {token}"))

    assert answers == {(403, "invalid token")}


@pytest.mark.parametrize(
    ("changes", "is_good"),
    [
        ({"aud": "sockets", "iss": "https://id.example"}, True),
        ({"aud": ["other", "sockets"], "iss": "https://id.example"}, True),
        ({"aud": "other", "iss": "https://id.example"}, False),
        ({"iss": "https://id.example"}, False),
        ({"aud": "sockets", "iss": "https://evil.example"}, False),
        ({"aud": "sockets"}, False),
    ],
)
def test_audience_and_issuer_are_those_of_the_settings(configure, user, changes, is_good):
    configure("RS256", audience="sockets", issuer="https://id.example")

    found = authjwt_method(signed(user, "RS256", **changes))

    assert found == (user if is_good else None)


def test_leeway_is_that_of_the_settings(configure, user):
    late = signed(user, exp=int(time.time()) - 5)

    configure("HS256", leeway=60)
    assert authjwt_method(late) == user
    configure("HS256", leeway=0)
    assert authjwt_method(late) is None


class KeyServer(http.server.ThreadingHTTPServer):
    """Publishes keys by `kid`, and counts who asks."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys = {}
        self.asked = 0
        self.is_down = False
        self.url = f"http://127.0.0.1:{self.server_port}/keys"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        if self.server.is_down:
            self.send_error(500)
            return
        algorithms = {"RSA": jwt.algorithms.RSAAlgorithm, "P-2": jwt.algorithms.ECAlgorithm}
        keys = [
            {
                **algorithms[name[:3]].to_jwk(MADE[name].public_key(), as_dict=True),
                "kid": kid,
                "use": "sig",
            }
            for kid, name in self.server.keys.items()
        ]
        body = json.dumps({"keys": keys}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def key_server():
    with KeyServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_published_keys_rotate(configure, user, key_server):
    """`JWK_URL`: the old key and the new one side by side, told apart by `kid`; a key that
    came later is found; one that was taken away is no key."""
    key_server.keys = {"old": "RSA", "new": "RSA2"}
    backend = configure("RS256", jwk_url=key_server.url)
    old = signed(user, "RS256", KEYS["RSA"][0], headers={"kid": "old"})
    new = signed(user, "RS256", KEYS["RSA2"][0], headers={"kid": "new"})
    swapped = signed(user, "RS256", KEYS["RSA"][0], headers={"kid": "new"})

    assert authjwt_method(old) == authjwt_method(new) == user
    assert authjwt_method(swapped) is None
    assert key_server.asked == 1

    key_server.keys = {"newest": "RSA2"}
    backend.jwks_client.cooldown_duration = 0
    methods.published_keys._fetched_at = float("-inf")
    newest = signed(user, "RS256", KEYS["RSA2"][0], headers={"kid": "newest"})
    assert authjwt_method(newest) == user
    assert authjwt_method(old) is None


def test_unknown_keys_do_not_make_us_ask_again_and_again(configure, user, key_server):
    """A flood of tokens with made-up `kid`s is not passed on to the key server."""
    key_server.keys = {"a": "RSA"}
    backend = configure("RS256", jwk_url=key_server.url)
    # Ours to bound, whatever PyJWT does.
    backend.jwks_client.cooldown_duration = 0
    for kid in (*map(str, range(20)), "../../dev/null", "http://127.0.0.1:9/", ""):
        token = signed(user, "RS256", KEYS["RSA2"][0], headers={"kid": kid})
        assert authjwt_method(token) is None
    assert authjwt_method(signed(user, "RS256", KEYS["RSA"][0])) is None

    assert key_server.asked <= 2


def test_a_published_key_is_of_its_own_kind(configure, user, key_server):
    """An elliptic key does not verify for RS256, and its public text is no HS256 secret."""
    key_server.keys = {"a": "P-256"}
    configure("RS256", jwk_url=key_server.url)
    public = KEYS["P-256"][1]

    ec_signed = signed(user, "ES256", headers={"kid": "a"})
    confused = by_hand({"alg": "HS256", "kid": "a"}, claims_of(user), public)

    assert authjwt_method(ec_signed) is None and authjwt_method(confused) is None


def test_a_key_server_that_is_down_is_not_a_bad_token(configure, user, key_server):
    """`AuthUnavailable`, which is 503 or error 100; asked again after a while, and keys
    that are known go on to be good."""
    key_server.keys = {"a": "RSA"}
    key_server.is_down = True
    configure("RS256", jwk_url=key_server.url)
    token = signed(user, "RS256", KEYS["RSA"][0], headers={"kid": "a"})

    for _ in range(3):
        with pytest.raises(AuthUnavailable):
            authjwt_method(token)
    assert key_server.asked == 1

    key_server.is_down = False
    methods.published_keys._failed_at = float("-inf")
    assert authjwt_method(token) == user
    key_server.is_down = True
    assert authjwt_method(token) == user


def test_made_up_keys_do_not_keep_known_ones_out(configure, user, key_server):
    """While the server is down, a `kid` that has to be asked for is "not now", and tokens
    of kept keys are good all the same."""
    key_server.keys = {"a": "RSA"}
    backend = configure("RS256", jwk_url=key_server.url)
    good = signed(user, "RS256", KEYS["RSA"][0], headers={"kid": "a"})
    assert authjwt_method(good) == user
    backend.jwks_client.cooldown_duration = 0
    methods.published_keys._fetched_at = float("-inf")
    key_server.is_down = True

    for _ in range(5):
        with pytest.raises(AuthUnavailable):
            authjwt_method(signed(user, "RS256", KEYS["RSA2"][0], headers={"kid": "x"}))
        assert authjwt_method(good) == user

    assert key_server.asked == 2


async def test_a_key_server_that_is_down_is_a_503(serve_site, configure, user):
    served = await serve_site(tokenauth_method="redis_pubsub.auth.authjwt_method")
    configure("RS256", jwk_url="http://127.0.0.1:9/")
    token = signed(user, "RS256", KEYS["RSA"][0], headers={"kid": "a"})

    answer = await refusal(served, Authorization=f"Bearer {token}")

    assert answer == (503, "try again later")


class TestDrfJwt:
    """The same with drf-jwt, where simplejwt is not installed."""

    @pytest.fixture(autouse=True)
    def configure(self, monkeypatch):
        from rest_framework_jwt.settings import api_settings

        found = methods.find_spec
        monkeypatch.setattr(
            methods,
            "find_spec",
            lambda name: None if name == "rest_framework_simplejwt" else found(name),
        )

        def configure(**options):
            for name, value in options.items():
                monkeypatch.setattr(api_settings, f"JWT_{name}", value)

        configure(SECRET_KEY=SECRET)
        return configure

    def signed(self, user, *arguments, **options):
        return signed(user, *arguments, username=user.username, **options)

    def test_several_keys_by_kid(self, configure, user):
        """A dict of public keys is its rotation; the path in a `kid` names none."""
        configure(
            ALGORITHM="RS256",
            PUBLIC_KEY={"a": MADE["RSA"].public_key(), "b": MADE["RSA2"].public_key()},
            INSIST_ON_KID=True,
        )
        for kid, name in (("a", "RSA"), ("b", "RSA2")):
            token = self.signed(user, "RS256", KEYS[name][0], headers={"kid": kid})
            assert authjwt_method(token) == user
        for kid, name in (("a", "RSA2"), ("../a", "RSA"), ("", "RSA")):
            token = self.signed(user, "RS256", KEYS[name][0], headers={"kid": kid})
            assert authjwt_method(token) is None

    @pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
    def test_algorithms(self, configure, user, algorithm):
        _, verifying = ALGORITHMS[algorithm]
        configure(ALGORITHM=algorithm, PUBLIC_KEY=verifying or None)

        assert authjwt_method(self.signed(user, algorithm)) == user
        assert authjwt_method(self.signed(user, algorithm)[:-6] + "AAAAAA") is None

    def test_forgeries(self, configure, user):
        """Among them a token without an end, which the package itself takes."""
        assert authjwt_method(self.signed(user)) == user
        public = KEYS["RSA"][1]
        claims = {**claims_of(user), "username": user.username}
        no_alg = by_hand({"typ": "JWT"}, claims, SECRET)
        none = f"{part({'alg': 'none'})}.{part(claims)}."
        for token in (none, no_alg, self.signed(user, exp=None), "a.b.c"):
            assert authjwt_method(token) is None
        configure(ALGORITHM="RS256", PUBLIC_KEY=public)
        assert authjwt_method(by_hand({"alg": "HS256"}, claims, public)) is None
        configure(ALGORITHM="HS256", AUDIENCE="sockets", ISSUER="me")
        assert authjwt_method(self.signed(user, aud="other", iss="me")) is None
        assert authjwt_method(self.signed(user, aud="sockets", iss="you")) is None
        assert authjwt_method(self.signed(user, aud="sockets", iss="me")) == user


OLD, NEW = "the old key of these tests, 32 bytes and more", "the new one, 32 bytes or more"


def test_the_sites_own_keys_rotate(settings, user):
    """`token_key` as a list: the first signs, each verifies; one that was taken out, or an
    empty one, does not."""
    settings.REDIS_PUBSUB = {"live": {"token_key": OLD}}
    old = connection_token(user)

    settings.REDIS_PUBSUB = {"live": {"token_key": [NEW, OLD]}}
    keys = get_config().live_options.token_keys
    new = connection_token(user)
    assert verify(old, keys).sub == verify(new, keys).sub == str(user.pk)
    with pytest.raises(InvalidToken):
        verify(new, [OLD])
    with pytest.raises(InvalidToken):
        verify(old, [NEW])

    empty = by_hand({"alg": "HS256"}, {"sub": "1"}, b"")
    for none in ([], [""], "", [NEW, ""]):
        with pytest.raises(InvalidToken):
            verify(empty, none)


def test_a_huge_token_is_not_read(monkeypatch):
    """Its signature is not computed, whatever it is."""
    monkeypatch.setattr("redis_pubsub.auth.tokens._digest", None)

    with pytest.raises(InvalidToken, match="too long"):
        verify("a" * 4_000 + "." + "b" * 4_200 + ".c", NEW)


async def test_a_token_of_the_old_key_connects_while_both_are_there(serve_site, user):
    """Over a real socket: nobody is logged out by a new key."""
    served = await serve_site(live={"token_key": [NEW, OLD]})
    claims = json.dumps({"sub": str(user.pk), "exp": time.time() + 60}).encode()

    for key, is_good in ((OLD, True), (NEW, True), (NEW + "x", False)):
        client = Live(await served.connect("/connection/websocket"))
        await client.say({"connect": {"token": sign(claims, key)}})
        if is_good:
            assert "client" in (await client.hear())["connect"]
        else:
            assert await client.ended() == (3500, "invalid token")
