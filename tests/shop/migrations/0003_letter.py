"""Models whose delivery is tracked, by the moment they were made."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('redis_pubsub', '0002_text_keys'),
        ('shop', '0002_person'),
    ]

    operations = [
        migrations.CreateModel(
            name='Letter',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('body', models.CharField(default='', max_length=50)),
                ('is_withdrawn', models.BooleanField(default=False)),
                ('written_at', models.DateTimeField(default=django.utils.timezone.now, null=True)),
                ('channel', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='publishable_%(app_label)s_%(class)ss', to='redis_pubsub.channel')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='Postcard',
            fields=[
                ('letter_ptr', models.OneToOneField(auto_created=True, on_delete=django.db.models.deletion.CASCADE, parent_link=True, primary_key=True, serialize=False, to='shop.letter')),
                ('picture', models.CharField(default='', max_length=50)),
            ],
            options={
                'abstract': False,
            },
            bases=('shop.letter',),
        ),
    ]
