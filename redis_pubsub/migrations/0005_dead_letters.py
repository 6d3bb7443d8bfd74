"""A model without a table, for the permissions of the page of dead letters."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("redis_pubsub", "0004_receipt_horizon")]

    operations = [
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                (
                    "id",
                    models.AutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
            ],
            options={
                "managed": False,
                "default_permissions": ("view", "change", "delete"),
            },
        ),
    ]
