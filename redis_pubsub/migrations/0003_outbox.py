"""The outbox: messages that wait for Redis, and who publishes them."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("redis_pubsub", "0002_text_keys")]

    operations = [
        migrations.CreateModel(
            name="OutboxPartition",
            fields=[
                (
                    "id",
                    models.PositiveSmallIntegerField(primary_key=True, serialize=False),
                ),
                ("fence", models.BigIntegerField(default=0)),
                ("holder", models.CharField(default="", max_length=32)),
                ("expires_at", models.FloatField(default=0.0)),
            ],
        ),
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("partition", models.PositiveSmallIntegerField()),
                ("channel", models.CharField(max_length=255)),
                ("message_id", models.CharField(max_length=64)),
                ("header", models.BinaryField()),
                ("payload", models.BinaryField()),
                ("history_size", models.PositiveIntegerField(default=0)),
                ("history_ttl_s", models.PositiveIntegerField(default=0)),
                ("joins_history", models.BooleanField(default=False)),
                ("version", models.BigIntegerField(null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("failed_at", models.DateTimeField(null=True)),
                ("last_error", models.TextField(default="")),
                ("parked", models.BooleanField(default=False)),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["parked", "partition", "id"],
                        name="redis_pubsub_outbox_order",
                    )
                ],
            },
        ),
    ]
