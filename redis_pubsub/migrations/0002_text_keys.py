"""Any primary key, longer channel names, and one receipt a publication.

Version 1.0 wrote a receipt for every socket that a publication reached; of those that say
the same, the earliest stays.
"""

from typing import Any

from django.conf import settings
from django.db import migrations, models
from django.db.models import F, Window
from django.db.models.functions import RowNumber

import redis_pubsub.models.channels

ONE_RECEIPT = ("subscriber", "publication_type", "publication_id", "channel")


def merge_receipts(apps: Any, schema_editor: Any) -> None:
    """Keep the earliest of the receipts that say the same, in one statement.

    A receipt without a type or an id is nobody's repetition: a unique constraint would
    not find it one either.
    """
    model = apps.get_model("redis_pubsub", "ReceivedPublication")
    receipts = model._base_manager.using(schema_editor.connection.alias)
    known = receipts.filter(publication_type__isnull=False, publication_id__isnull=False)
    place = Window(
        RowNumber(),
        partition_by=[F(name) for name in ONE_RECEIPT],
        order_by=["datetime_received", "id"],
    )
    repeated = known.annotate(place=place).filter(place__gt=1)
    receipts.filter(pk__in=repeated.values("pk")).delete()


def prepare_mysql(apps: Any, schema_editor: Any) -> None:
    """What MySQL and MariaDB need besides; nothing on other databases.

    Tables of 2016 have a row format whose indexes end at 767 bytes: too short for 255
    characters of utf8mb4. And keys as text compare exactly, whatever the table's own
    collation makes equal: "a1" is not "A1".
    """
    if schema_editor.connection.vendor != "mysql":
        return
    channels = apps.get_model("redis_pubsub", "Channel")._meta.db_table
    receipts = apps.get_model("redis_pubsub", "ReceivedPublication")._meta.db_table
    schema_editor.execute(f"ALTER TABLE {channels} ROW_FORMAT=DYNAMIC")
    schema_editor.execute(
        f"ALTER TABLE {receipts} ROW_FORMAT=DYNAMIC, MODIFY publication_id varchar(255)"
        " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL"
    )


class Migration(migrations.Migration):
    dependencies = [
        ("contenttypes", "0002_remove_content_type_name"),
        ("redis_pubsub", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name="receivedpublication",
            name="publication_id",
            field=models.CharField(max_length=255, null=True),
        ),
        migrations.RunPython(prepare_mysql, migrations.RunPython.noop, atomic=False),
        migrations.AlterField(
            model_name="channel",
            name="name",
            field=models.CharField(
                max_length=255,
                unique=True,
                validators=[redis_pubsub.models.channels.validate_channel_name],
            ),
        ),
        # In the same migration as the constraint: where a migration is one transaction,
        # the table is locked since its column changed, so nobody adds a repetition between.
        migrations.RunPython(merge_receipts, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="receivedpublication",
            constraint=models.UniqueConstraint(
                fields=ONE_RECEIPT, name="redis_pubsub_one_receipt"
            ),
        ),
        migrations.AddIndex(
            model_name="receivedpublication",
            index=models.Index(
                fields=["publication_type", "publication_id"],
                name="redis_pubsub_publication",
            ),
        ),
    ]
