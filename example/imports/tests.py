"""The import's own tests: ``python manage.py test example``. They need no Redis."""

from __future__ import annotations

from unittest import mock

from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import TestCase, override_settings

from redis_pubsub.testing import captured_jobs, eager_jobs

from ..chat.models import Correspondence, Message
from .consumers import import_letters
from .forms import CHARACTERS_MAX


# A page's bell asks for the last notice.
@override_settings(REDIS_PUBSUB={**settings.REDIS_PUBSUB, "url": "memory://imports"})
class ImportTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.ada = get_user_model().objects.create_user("ada")
        cls.letters = Correspondence.objects.create(subject="Letters")
        cls.letters.participants.add(cls.ada)
        cls.old = Message.objects.create(
            correspondence=cls.letters, author=cls.ada, body="same"
        )

    def setUp(self) -> None:
        self.client.force_login(self.ada)

    def post(self, *lines: str) -> int:
        fields = {"correspondence": self.letters.pk, "letters": "\n".join(lines)}
        return self.client.post("/import/", fields).status_code

    def bodies(self) -> list[str]:
        new = self.letters.messages.filter(pk__gt=self.old.pk).order_by("pk")
        return list(new.values_list("body", flat=True))

    def test_the_page_answers_and_a_worker_imports(self) -> None:
        with captured_jobs() as jobs:
            self.assertEqual(self.post("one", "", " two "), 302)
        [job] = jobs
        self.assertEqual(job.name, "import_letters")
        self.assertEqual(job.kwargs["letters"], ["one", "two"])
        self.assertEqual(self.bodies(), [])

        with eager_jobs():
            self.post("one", "", " two ")
        self.assertEqual(self.bodies(), ["one", "two"])

    def test_a_job_that_runs_again_imports_what_is_missing_only(self) -> None:
        """As after the death of a worker: also where letters are alike."""
        create = Message.objects.create
        with captured_jobs() as jobs:
            self.post("same", "same", "other", "same")
        calls = 0

        def twice(**fields: object) -> Message:
            nonlocal calls
            calls += 1
            if calls > 2:
                raise RuntimeError("the worker dies")
            return create(**fields)

        dead = mock.patch.object(Message.objects, "create", side_effect=twice)
        with dead, self.assertRaises(RuntimeError):
            import_letters(**jobs[0].kwargs)
        self.assertEqual(self.bodies(), ["same", "same"])
        import_letters(**jobs[0].kwargs)

        self.assertEqual(self.bodies(), ["same", "same", "other", "same"])

    def test_more_than_a_message_holds_is_refused_with_words(self) -> None:
        lines = ["x" * 4_000] * (CHARACTERS_MAX // 4_000)
        with captured_jobs() as jobs:
            self.assertEqual(self.post(*lines, "x"), 400)
            self.assertEqual(self.post(*("\x01" * 4_000 for _ in range(40))), 302)
        self.assertEqual(len(jobs), 1)
