"""What is imported."""

from __future__ import annotations

from typing import Any

from django import forms

from ..chat.models import BODY_MAX

LETTERS_MAX = 5_000
CHARACTERS_MAX = 160_000
"""Of all letters together: they travel to a worker in one message, which may have a
mebibyte, and a character takes six bytes of JSON at most."""


class ImportForm(forms.Form):
    """Letters, one a line, into one of the user's correspondences."""

    correspondence = forms.ModelChoiceField(None, empty_label=None)
    letters = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 8, "placeholder": "One letter a line"})
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["correspondence"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = user.correspondences.all()

    def clean_letters(self) -> list[str]:
        lines = [line.strip() for line in self.cleaned_data["letters"].splitlines()]
        letters = [line for line in lines if line]
        if len(letters) > LETTERS_MAX or any(len(each) > BODY_MAX for each in letters):
            raise forms.ValidationError(
                f"At most {LETTERS_MAX} letters of at most {BODY_MAX} characters."
            )
        if sum(map(len, letters)) > CHARACTERS_MAX:
            raise forms.ValidationError(
                f"At most {CHARACTERS_MAX} characters at once; import the rest later."
            )
        return letters
