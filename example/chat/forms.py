"""What people fill in."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.db import transaction

from .models import BODY_MAX, Correspondence, Message, name_of


class MessageForm(forms.ModelForm):
    """One message, without the spaces around it."""

    class Meta:
        model = Message
        fields = ["body"]
        labels = {"body": "Your message"}
        widgets = {
            "body": forms.Textarea(
                {"rows": 1, "placeholder": "Write a message", "autocomplete": "off"}
            )
        }
        error_messages = {
            "body": {
                "required": "Write something first.",
                "max_length": f"A message has at most {BODY_MAX} characters.",
            }
        }


class People(forms.ModelMultipleChoiceField):
    def label_from_instance(self, obj: Any) -> str:
        return name_of(obj)


class CorrespondenceForm(forms.ModelForm):
    """A new correspondence of the user with others.

    Args:
        user: Who begins it, and participates.
    """

    participants = People(
        queryset=None, label="With", widget=forms.CheckboxSelectMultiple()
    )

    class Meta:
        model = Correspondence
        fields = ["subject", "participants"]

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        others = get_user_model().objects.filter(is_active=True).exclude(pk=user.pk)
        self.fields["participants"].queryset = others.order_by("first_name", "username")

    @transaction.atomic
    def save(self, commit: bool = True) -> Correspondence:
        correspondence: Correspondence = super().save(commit)
        correspondence.participants.add(self.user)
        return correspondence
