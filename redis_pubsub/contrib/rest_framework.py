"""REST framework: a view that issues tickets to whoever its authentication lets in."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ..auth.issuing import TicketRefused, ticket_for


class TicketView(APIView):
    """``POST``: a ticket for the user of a token or a session, as the plain view issues it.
    Authentication and throttling are those of the site's settings."""

    permission_classes = (IsAuthenticated,)

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        try:
            token = getattr(request.auth, "key", "")
            issued = ticket_for(request._request, request.user, token=token)
        except TicketRefused as refusal:
            return Response(
                {"detail": str(refusal)}, status=refusal.status, headers=refusal.headers
            )
        return Response(issued, headers={"Cache-Control": "no-store"})
