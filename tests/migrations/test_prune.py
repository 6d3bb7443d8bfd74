"""``pubsub_prune``: old receipts go, and nothing becomes undelivered again, on every kind
of database.

Of the channel "news", ada and bob have active subscriptions. Version 1.0 left receipts,
which are old as well.
"""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.utils import timezone

from redis_pubsub import retention
from redis_pubsub.models import Channel, ReceiptHorizon, ReceivedPublication
from redis_pubsub.receipts import Receipt, record
from tests.shop.models import Letter, Parcel, Postcard


@pytest.fixture(autouse=True)
def only_ours(upgraded: Any) -> None:
    ReceivedPublication.objects.all().delete()


@pytest.fixture
def ada(upgraded: Any) -> Any:
    get_user_model().objects.get(username="bob").subscriptions.all().delete()
    return get_user_model().objects.get(username="ada")


@pytest.fixture
def news(upgraded: Any) -> Channel:
    return Channel.objects.get(name="news")


def delivered(model: Any, user: Any, *, days: int, **fields: Any) -> Any:
    """A row that was made, and received, so many days ago."""
    moment = timezone.now() - timedelta(days=days)
    row = model(channel=Channel.objects.get(name="news"), **fields)
    if hasattr(row, "written_at"):
        row.written_at = moment
    row.save()
    record([Receipt("news", user.pk, model._meta.label, str(row.pk))])
    kind = ContentType.objects.get_for_model(model)
    ReceivedPublication.objects.filter(publication_type=kind, publication_id=row.pk).update(
        datetime_received=moment
    )
    return row


def prune(*arguments: str) -> str:
    output = StringIO()
    call_command("pubsub_prune", *arguments, stdout=output)
    return output.getvalue()


def received() -> set[str | None]:
    return set(ReceivedPublication.objects.values_list("publication_id", flat=True))


def test_old_receipts_go_and_their_rows_stay_delivered(ada, news):
    """The horizon is moved: what was pruned is not caught up with (§2.5, retention)."""
    delivered(Letter, ada, days=40)
    new = delivered(Letter, ada, days=5)
    owed = Letter.objects.create(channel=news, body="owed")

    output = prune("--days", "30")

    assert "shop.Letter: 1 deleted\n" in output
    assert received() == {str(new.pk)}
    assert list(Letter.objects.get_undelivered()) == [(ada, owed)]


def test_rows_beyond_the_horizon_are_owed_to_nobody(ada, news):
    """Delivered or not is not known any more, for later subscribers neither."""
    old = Letter.objects.create(channel=news, written_at=timezone.now() - timedelta(days=9))
    undated = Letter.objects.create(channel=news, written_at=None)
    assert (ada, old) in Letter.objects.get_undelivered()

    prune("--days", "7")

    assert list(Letter.objects.get_undelivered()) == [(ada, undated)]


def test_the_horizon_never_moves_back(ada):
    """Keeping longer from now on brings nothing back."""
    delivered(Letter, ada, days=40)
    prune("--days", "30")

    prune("--days", "60")

    assert list(Letter.objects.get_undelivered()) == []
    kind = ContentType.objects.get_for_model(Letter)
    horizon = ReceiptHorizon.objects.get(publication_type=kind).pruned_before
    assert timezone.now() - horizon < timedelta(days=31)


def test_without_a_moment_only_receipts_of_deleted_rows_go(ada):
    """Nothing says that a row is old, so its receipt stays (§2.5)."""
    parcel = delivered(Parcel, ada, days=400)
    gone = delivered(Parcel, ada, days=400)
    Parcel.objects.filter(pk=gone.pk).delete()

    output = prune("--days", "30")

    assert "shop.Parcel: 1 deleted, 1 kept" in output and "TRACK_DELIVERY_BY" in output
    assert received() == {str(parcel.pk)}
    assert list(Parcel.objects.get_undelivered()) == []


def test_a_letter_without_a_moment_keeps_its_receipt(ada):
    """It is never beyond the horizon."""
    letter = delivered(Letter, ada, days=400)
    Letter.objects.filter(pk=letter.pk).update(written_at=None)

    prune("--days", "30")

    assert received() == {str(letter.pk)}
    assert list(Letter.objects.get_undelivered()) == []


def test_rows_with_an_inherited_table_stay_delivered_on_both(ada):
    """The horizon of each is moved."""
    delivered(Postcard, ada, days=400)

    prune("--days", "30")

    assert received() == set()
    assert list(Postcard.objects.get_undelivered()) == []
    assert list(Letter.objects.get_undelivered()) == []


def test_receipts_that_say_nothing_any_more_go(ada, news):
    """Of models that are gone, and 1.0's without a type."""
    gone = ContentType.objects.create(app_label="shop", model="wasonce")
    for kind, key in ((gone, "1"), (None, None)):
        ReceivedPublication.objects.create(
            channel=news, subscriber=ada, publication_type=kind, publication_id=key
        )
    ReceivedPublication.objects.update(datetime_received=timezone.now() - timedelta(99))

    output = prune("--days", "30")

    assert "shop.wasonce (gone): 1 deleted" in output and "no model: 1 deleted" in output
    assert received() == set()


def test_a_dry_run_counts_and_changes_nothing(ada):
    """Neither receipts nor the horizon."""
    delivered(Letter, ada, days=40)

    output = prune("--days", "30", "--dry-run")

    assert "shop.Letter: 1 would be deleted" in output
    assert ": 1 would be deleted." in output
    assert ReceivedPublication.objects.count() == 1
    assert not ReceiptHorizon.objects.exists()


def test_it_works_in_chunks(ada, monkeypatch):
    """However many there are, and every one is looked at."""
    monkeypatch.setattr(retention, "CHUNK", 3)
    kept = [delivered(Letter, ada, days=2) for _ in range(4)]
    for _ in range(8):
        delivered(Letter, ada, days=40)

    output = prune("--days", "30")

    assert "shop.Letter: 8 deleted\n" in output
    assert received() == {str(letter.pk) for letter in kept}


def test_the_setting_says_how_long(ada, settings):
    """``keep_days``; ``--days`` wins; without either it is an error."""
    delivered(Letter, ada, days=40)
    delivered(Letter, ada, days=20)

    with pytest.raises(CommandError, match="how many days"):
        prune()
    settings.REDIS_PUBSUB = {"receipts": {"keep_days": 30}}
    prune()
    assert ReceivedPublication.objects.count() == 1
    prune("--days", "10")

    assert received() == set()


@pytest.mark.parametrize("days", ["0", "-3"])
def test_less_than_a_day_is_refused(upgraded, days):
    """What is on its way would be pruned."""
    with pytest.raises(CommandError, match="1 day at least"):
        prune("--days", days)
