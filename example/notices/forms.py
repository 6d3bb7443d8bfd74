"""What is said, and to whom."""

from __future__ import annotations

import time
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from redis_pubsub.publishing.addressed import publish_to

from ..chat.forms import People

TOPIC = "notices"


class NoticeForm(forms.Form):
    """A notice to people, to groups, or to everybody."""

    text = forms.CharField(label="Notice", max_length=200)
    users = People(None, label="To people", required=False)
    groups = forms.ModelMultipleChoiceField(None, label="To groups", required=False)
    everybody = forms.BooleanField(label="To everybody", required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, model in (("users", get_user_model()), ("groups", Group)):
            field = self.fields[name]
            assert isinstance(field, forms.ModelMultipleChoiceField)
            field.queryset = model._default_manager.all()
            field.widget = forms.CheckboxSelectMultiple(choices=field.choices)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if not (data.get("users") or data.get("groups") or data.get("everybody")):
            raise forms.ValidationError("Say to whom.")
        return data

    def send(self) -> None:
        """To all of them in one round trip; a day long for who comes later."""
        data = self.cleaned_data
        publish_to(
            {"at": time.time(), "text": data["text"]},
            topic=TOPIC,
            users=data["users"],
            groups=data["groups"],
            broadcast=data["everybody"],
        )
