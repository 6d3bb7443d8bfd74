# auth.py
from django.contrib.auth import get_user_model
from django.core import signing

# A subprotocol may have no colon in it.
signer = signing.TimestampSigner(salt="sockets", sep=".")


def make_token(user):
    """For a page of a logged-in user to open its socket with; good for a minute."""
    return signer.sign(str(user.pk))


def signed_method(token):
    """A ``tokenauth_method``: one str in, a user or None out. May query."""
    try:
        pk = signer.unsign(token, max_age=60)
    except signing.BadSignature:
        return None
    return get_user_model().objects.filter(pk=pk).first()


async def async_method(token):
    """The same as a coroutine function."""
    try:
        pk = signer.unsign(token, max_age=60)
    except signing.BadSignature:
        return None
    return await get_user_model().objects.filter(pk=pk).afirst()
